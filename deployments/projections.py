"""Deployments and their schedules as the wire shows them (contract: flows_deployments.md, section 2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from django.db.models import F
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from deployments.models import Deployment, DeploymentSchedule
from flowruns.models import Flow
from orchestrator.core.projection import Joined, Projection, WireRow

LIMIT_COLUMNS = ("id", "created", "updated", "active", "name", "limit", "active_slots", "slot_decay_per_second")


class ScheduleProjection(Projection):
    def of_deployments(self, keys: Sequence[str]) -> dict[str, list[WireRow]]:
        """The schedules of some deployments by deployment, newest change first; one query."""
        found: dict[str, list[WireRow]] = defaultdict(list)
        condition, params = self.among("deployment_id", keys)
        for row in self.where(f"{condition} ORDER BY {self.table}.updated DESC, {self.table}.id", params):
            found[row["deployment_id"]].append(row)
        return found


class DeploymentProjection(Projection):
    """Two queries whatever the page: the deployments with queue, pool and limit joined, and all their schedules."""

    def _read(self, opened: AbstractContextManager[Any], condition: str, params: Sequence[Any]) -> list[WireRow]:
        rows = super()._read(opened, condition, params)
        schedules = SCHEDULE.of_deployments([row["id"] for row in rows]) if rows else {}
        for row in rows:
            row["schedules"] = schedules.get(row["id"], [])
        return rows

    def named(self, flow_name: str, name: str) -> WireRow | None:
        """The deployment of this name in the flow of this name."""
        flow = f"(SELECT id FROM {Flow._meta.db_table} WHERE name = %s)"  # noqa: S608
        found = self.where(f"{self.table}.flow_id = {flow} AND {self.table}.name = %s", [flow_name, name])
        return next(iter(found), None)


def with_old_limit(row: WireRow, now: datetime) -> None:
    """The key under which old clients look for a limit: always null."""
    row["concurrency_limit"] = None


SCHEDULE = ScheduleProjection(
    DeploymentSchedule,
    {
        name: name
        for name in (
            "id",
            "created",
            "updated",
            "deployment_id",
            "schedule",
            "active",
            "max_scheduled_runs",
            "parameters",
            "slug",
        )
    },
)

COLUMNS: dict[str, str | Combinable | Joined] = {
    "id": "id",
    "created": "created",
    "updated": "updated",
    "name": "name",
    "version": "version",
    "description": "description",
    "path": "path",
    "entrypoint": "entrypoint",
    "flow_id": "flow_id",
    "paused": "paused",
    # Placeholders that keep the wire's order; what follows the query fills them.
    "schedules": "id",
    "concurrency_limit": "id",
    "global_concurrency_limit": Joined("concurrency_limit", {name: name for name in LIMIT_COLUMNS}),
    "concurrency_options": "concurrency_options",
    "job_variables": "job_variables",
    "parameters": "parameters",
    "tags": "tags",
    "labels": "labels",
    "work_queue_name": Coalesce("work_queue__name", F("work_queue_name")),
    "work_queue_id": "work_queue_id",
    "work_pool_name": "work_queue__work_pool__name",
    "last_polled": "last_polled",
    "status": "status",
    "parameter_openapi_schema": "parameter_openapi_schema",
    "pull_steps": "pull_steps",
    "storage_document_id": "storage_document_id",
    "infrastructure_document_id": "infrastructure_document_id",
    "created_by": "created_by",
    "updated_by": "updated_by",
    "enforce_parameter_schema": "enforce_parameter_schema",
}
DEPLOYMENT = DeploymentProjection(Deployment, COLUMNS, with_old_limit)

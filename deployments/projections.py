"""Deployments and their schedules as the wire shows them (contract: flows_deployments.md, section 2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from deployments.models import Deployment, DeploymentSchedule
from orchestrator.core.projection import Projection, WireRow

NEWEST_FIRST = ("-updated", "pk")
LIMIT_COLUMNS = ("id", "created", "updated", "active", "name", "limit", "active_slots", "slot_decay_per_second")


class PreparedProjection(Projection):
    """A projection whose frequent selections are compiled once per process and database."""

    def prepared(self, name: str, rows: Callable[[], QuerySet[Any]], params: Sequence[Any]) -> list[WireRow]:
        """The rows of the selection `name`, as `rows()` compiles it, with `params` in the place of its own."""
        compiled = self.__dict__.setdefault("_prepared", {})
        place = (connection.vendor, name)
        if place not in compiled:
            sql, _, converters = self._compile(rows())
            compiled[place] = (sql, converters)
        sql, converters = compiled[place]
        return self._read(sql, params, converters)


class ScheduleProjection(PreparedProjection):
    def of_deployment(self, key: Any) -> list[WireRow]:
        """The schedules of one deployment, newest change first; one query."""
        field = Deployment._meta.pk
        of_one = DeploymentSchedule.objects.filter(deployment_id=key).order_by(*NEWEST_FIRST)
        return self.prepared("of_deployment", lambda: of_one, [field.get_db_prep_value(key, connection)])

    def by_deployment(self, keys: Sequence[Any]) -> dict[Any, list[WireRow]]:
        """The schedules of some deployments by deployment, newest change first; one query."""
        found: dict[Any, list[WireRow]] = defaultdict(list)
        for row in self.many(DeploymentSchedule.objects.filter(deployment_id__in=keys).order_by(*NEWEST_FIRST)):
            found[row["deployment_id"]].append(row)
        return found


class DeploymentProjection(PreparedProjection):
    """Two queries whatever the page: the deployments with queue, pool and limit joined, and all their schedules."""

    def many(self, rows: QuerySet[Any]) -> list[WireRow]:
        return with_schedules(super().many(rows))

    def one(self, key: Any) -> WireRow | None:
        if (row := super().one(key)) is not None:
            row["schedules"] = SCHEDULE.of_deployment(key)
        return row

    def named(self, flow_name: str, name: str) -> WireRow | None:
        """The deployment of this name in the flow of this name."""
        rows = self.prepared(
            "named", lambda: Deployment.objects.filter(flow__name=flow_name).filter(name=name), [flow_name, name]
        )
        for row in rows:
            row["schedules"] = SCHEDULE.of_deployment(UUID(str(row["id"])))
        return next(iter(rows), None)


def with_schedules(rows: list[WireRow]) -> list[WireRow]:
    schedules = SCHEDULE.by_deployment([row["id"] for row in rows]) if rows else {}
    for row in rows:
        row["schedules"] = schedules.get(row["id"], [])
    return rows


def with_limit(row: WireRow, now: datetime) -> None:
    """The joined columns of the bound limit folded into one object; null where none is bound."""
    limit = {name: row.pop(f"limit.{name}") for name in LIMIT_COLUMNS}
    row["global_concurrency_limit"] = limit if limit["id"] else None
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

COLUMNS: dict[str, str | Combinable] = {
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
    "global_concurrency_limit": "id",
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
JOINED_LIMIT = {f"limit.{name}": f"concurrency_limit__{name}" for name in LIMIT_COLUMNS}
DEPLOYMENT = DeploymentProjection(Deployment, COLUMNS | JOINED_LIMIT, with_limit)

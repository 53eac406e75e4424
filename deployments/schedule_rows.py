"""Schedules of a deployment as rows: add, change, replace (contract: flows_deployments.md, sections 4.1 and 6).

The caller holds the lock of the deployment's row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from deployments import scheduling
from deployments.models import DeploymentSchedule
from deployments.schedule_plans import SchedulePlan
from deployments.schedule_shapes import stored
from deployments.schemas import ScheduleUpdate
from flowruns.removal import delete_rows
from orchestrator.core.prepared import insert

Plan = SchedulePlan[DeploymentSchedule, ScheduleUpdate]  # type: ignore[type-var]


def add_schedules(
    deployment_id: UUID,
    items: Iterable[ScheduleUpdate],
    *,
    replaced: Sequence[DeploymentSchedule] = (),
    keep_cap: bool = False,
) -> list[DeploymentSchedule]:
    """Insert a schedule for every item, in order. Raises IntegrityError where a slug is taken.

    An item that does not say whether it is active inherits the flag of the replaced schedule of the same identity, so
    that a redeploy does not wake what an operator has put to sleep. `max_scheduled_runs` is kept only with `keep_cap`.
    """
    now = timezone.now()
    was_active = {row.identity: row.active for row in replaced}
    rows = []
    for position, item in enumerate(items):
        # A microsecond apart, so that "newest first" is an order and not an accident.
        made = now + timedelta(microseconds=position)
        row = DeploymentSchedule(deployment_id=deployment_id, created=made, updated=made, refill_at=now)
        assert item.schedule is not None, "a plan creates only what has a schedule"
        row.schedule = stored(item.schedule)
        row.parameters = item.parameters
        row.slug = item.slug
        row.max_scheduled_runs = item.max_scheduled_runs if keep_cap else None
        row.identity = _identity(row)
        row.active = was_active.get(row.identity, True) if item.active is None else item.active
        rows.append(row)
    for row in rows:
        insert(row)
    return rows


def apply_plan(deployment_id: UUID, existing: Sequence[DeploymentSchedule], plan: Plan) -> None:
    if plan.replace_all and existing:
        delete_rows(DeploymentSchedule.objects.filter(deployment_id=deployment_id))
    # Slugs that move are cleared first: renames hold as if done at once, and two schedules may swap.
    renamed = [row.pk for row, item in plan.changes if item.slug and item.slug != row.slug]
    if renamed:
        DeploymentSchedule.objects.filter(pk__in=renamed).update(slug=None)
    for row, item in plan.changes:
        change_schedule(row, item)
    if plan.creations:
        add_schedules(deployment_id, plan.creations, replaced=existing if plan.replace_all else ())


def change_schedule(row: DeploymentSchedule, item: ScheduleUpdate) -> None:
    """Write what `item` names. Nulls leave things as they are; parameters are always written, `{}` when absent."""
    changes: dict[str, Any] = {"parameters": item.parameters}
    if item.schedule is not None:
        changes["schedule"] = stored(item.schedule)
    for name in ("active", "max_scheduled_runs", "slug"):
        if (value := getattr(item, name)) is not None:
            changes[name] = value
    for name, value in changes.items():
        setattr(row, name, value)
    row.identity = _identity(row)
    # A changed schedule is looked at anew, also when it was exhausted or put aside.
    row.refill_at = timezone.now()
    row.error = ""
    row.save(update_fields=[*changes, "identity", "refill_at", "error"])


def _identity(row: DeploymentSchedule) -> UUID:
    return scheduling.schedule_identity(row.deployment_id, row.schedule, row.parameters, row.slug)

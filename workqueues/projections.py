"""Pools, queues, workers and runs on offer as the wire shows them (work_pools_queues_workers.md, sections 1, 5, 6)."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db.models import Case, Count, F, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from flowruns.models import FlowRun
from flowruns.projections import FLOW_RUN_OWN, with_times
from flowruns.states import HOLDING
from orchestrator.core.projection import Joined, Projection, WireRow, moment_of
from workqueues.models import Worker, WorkPool, WorkQueue
from workqueues.models.pools import AGENT_POOL_TYPE
from workqueues.statuses import silence_allowed, worker_status


def counted(runs: QuerySet[FlowRun]) -> Coalesce:
    """How many `runs` there are, as a subquery."""
    grouped = runs.order_by().annotate(group=Value(1)).values("group").annotate(n=Count("pk"))
    return Coalesce(Subquery(grouped.values("n")), 0)


def where_limited(slots: Combinable) -> Case:
    """`slots` where there is a limit. Rows without one are not counted at all."""
    return Case(When(concurrency_limit__isnull=False, then=slots))


POOL_SLOTS = counted(FlowRun.objects.holding_pool_slots().filter(work_queue__work_pool=OuterRef("pk")))
QUEUE_SLOTS = counted(FlowRun.objects.holding_pool_slots().filter(work_queue=OuterRef("pk")))
AGENT_QUEUE_SLOTS = counted(FlowRun.objects.filter(state_type__in=sorted(HOLDING), work_queue=OuterRef("pk")))


def without_agent_status(row: WireRow, now: datetime) -> None:
    if row["type"] == AGENT_POOL_TYPE:
        row["status"] = None


WORK_POOL = Projection(
    WorkPool,
    {
        name: name
        for name in (
            "id",
            "created",
            "updated",
            "name",
            "description",
            "type",
            "base_job_template",
            "is_paused",
            "concurrency_limit",
            "status",
            "default_queue_id",
            "storage_configuration",
        )
    }
    | {"active_slots": where_limited(POOL_SLOTS)},
    without_agent_status,
)

QUEUE_OWN: dict[str, str | Combinable | Joined] = {
    "id": "id",
    "created": "created",
    "updated": "updated",
    "name": "name",
    "description": "description",
    "is_paused": "is_paused",
    "concurrency_limit": "concurrency_limit",
    "priority": "priority",
    "work_pool_id": "work_pool_id",
    "filter": "filter",
    "last_polled": "last_polled",
    "work_pool_name": "work_pool__name",
    "status": "status",
}
WORK_QUEUE = Projection(WorkQueue, QUEUE_OWN | {"active_slots": where_limited(QUEUE_SLOTS)})
AGENT_QUEUE = Projection(WorkQueue, QUEUE_OWN | {"active_slots": where_limited(AGENT_QUEUE_SLOTS)})


def with_liveness(row: WireRow, now: datetime) -> None:
    allowed = silence_allowed(
        row["heartbeat_interval_seconds"], settings.WORKER_FALLBACK_HEARTBEAT, settings.WORKER_INACTIVITY_MULTIPLE
    )
    last = moment_of(row["last_heartbeat_time"])
    row["status"] = worker_status(last, allowed, now) if last else row["status"]


WORKER = Projection(
    Worker,
    {
        name: name
        for name in (
            "id",
            "created",
            "updated",
            "name",
            "work_pool_id",
            "last_heartbeat_time",
            "heartbeat_interval_seconds",
            "status",
        )
    },
    with_liveness,
)


def without_state(row: WireRow, now: datetime) -> None:
    with_times(row, now)
    row["state"] = None


# A run on offer: its state is not loaded, and the pool is known to whoever asked.
SCHEDULED_RUN = Projection(
    FlowRun,
    FLOW_RUN_OWN | {"work_queue_name": Coalesce("work_queue__name", F("work_queue_name")), "state": "state_id"},
    without_state,
)

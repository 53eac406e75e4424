"""Who uses the slots of a pool's or queue's limit. Contract: work_pools_queues_workers.md, section 6."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from typing import Any

from django.db.models import F, Q, Window
from django.db.models.functions import RowNumber

from flowruns.models import FlowRun
from flowruns.states import HOLDING
from orchestrator.core.projection import Projection, WireRow, moment_of
from workqueues.models import WorkPool, WorkQueue
from workqueues.projections import QUEUE_SLOTS


def with_time_in_state(row: WireRow, now: datetime) -> None:
    since = moment_of(row["state_timestamp"])
    row["time_in_current_state"] = (now - since).total_seconds() if since else 0.0


SLOT = Projection(
    FlowRun,
    {
        "id": "id",
        "name": "name",
        "state_type": "state_type",
        "state_name": "state_name",
        "start_time": "start_time",
        "state_timestamp": "state_timestamp",
        "work_queue_id": "work_queue_id",
    },
    with_time_in_state,
)


def of_pool(pool: WorkPool, page: int, limit: int, runs_shown: int) -> dict[str, Any]:
    """A page of the pool's queues in serving order, each with its first `runs_shown` runs by id. Four queries."""
    queues = WorkQueue.objects.filter(work_pool=pool)
    shown = list(
        queues.order_by("priority", "pk")
        .annotate(used=QUEUE_SLOTS)
        .values_list("pk", "name", "concurrency_limit", "used")[(page - 1) * limit : page * limit]
    )
    holding = FlowRun.objects.holding_pool_slots()
    ranked = holding.filter(work_queue_id__in=[pk for pk, *_ in shown]).annotate(
        place=Window(RowNumber(), partition_by=F("work_queue_id"), order_by="pk")
    )
    runs: dict[str, list[WireRow]] = defaultdict(list)
    first = ranked.filter(place__lte=runs_shown).values("pk")
    for row in SLOT.many(FlowRun.objects.filter(pk__in=first).order_by("pk")) if runs_shown else []:
        runs[str(row.pop("work_queue_id"))].append(row)
    return {
        "active_slots": holding.filter(work_queue__work_pool=pool).count(),
        "concurrency_limit": pool.concurrency_limit,
        "queues": [
            {
                "queue_id": pk,
                "queue_name": name,
                "active_slots": used,
                "concurrency_limit": most,
                "flow_runs": runs[str(pk)],
                "flow_run_count": used,
            }
            for pk, name, most, used in shown
        ],
        **paging(queues.count(), page, limit),
    }


def of_queue(queue: WorkQueue, page: int, limit: int) -> dict[str, Any]:
    """A page of the runs that use the queue's slots; a run without a queue counts by the queue's name."""
    mine = Q(work_queue=queue) | Q(work_queue__isnull=True, work_queue_name=queue.name)
    holding = FlowRun.objects.filter(mine, state_type__in=sorted(HOLDING))
    count = holding.count()
    rows = SLOT.many(holding.order_by("pk")[(page - 1) * limit : page * limit]) if limit else []
    for row in rows:
        del row["work_queue_id"]
    return {
        "active_slots": count,
        "concurrency_limit": queue.concurrency_limit,
        "flow_runs": rows,
        **paging(count, page, limit),
    }


def paging(count: int, page: int, limit: int) -> dict[str, int]:
    return {"count": count, "limit": limit, "pages": math.ceil(count / limit) if limit else 0, "page": page}

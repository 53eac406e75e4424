"""Which runs a pool's worker or a queue's agent may take now.

Nothing is reserved: a run is offered until its state changes, and the rules of the state change decide who gets it. So
the queries here only read, and many pollers never wait for each other. Contract: work_pools_queues_workers.md, sections
5 and 8.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import DatabaseError, connection
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.expressions import RawSQL
from django.utils import timezone

from flowruns.models import FlowRun
from flowruns.projections import FLOW_RUN
from flowruns.states import HOLDING, StateType
from orchestrator.core.databases import in_one_transaction, is_postgresql
from orchestrator.core.errors import NotFound
from orchestrator.core.projection import WireRow, moment_of
from workqueues import statuses
from workqueues.models import WorkPool, WorkQueue
from workqueues.projections import QUEUE_SLOTS, SCHEDULED_RUN

log = logging.getLogger(__name__)

MOST_RUNS = 1_000
POLL_GRAIN = timedelta(seconds=5)  # a younger `last_polled` is not written again
NEVER = datetime.max.replace(tzinfo=UTC)
LEGS = 100  # SQLite takes at most 500 parts of a UNION


@dataclass(frozen=True, slots=True)
class Line:
    """A queue as a poll sees it. `used` is None where neither the queue nor its pool has a limit."""

    id: UUID
    name: str
    priority: int
    is_paused: bool
    limit: int | None
    used: int | None
    status: str
    last_polled: datetime | None
    pool_id: UUID
    pool_is_paused: bool
    pool_limit: int | None

    @property
    def free(self) -> int:
        return MOST_RUNS if self.limit is None else min(MOST_RUNS, max(0, self.limit - (self.used or 0)))


@dataclass(frozen=True, slots=True)
class Window:
    """What a worker asks for: starts from `after` to `before`, both included, and at most `limit` runs."""

    before: datetime | None
    after: datetime | None
    limit: int


def lines_of(pool_name: str) -> list[Line]:
    """The pool's queues in serving order. NotFound when there is no such pool."""
    limited = Q(concurrency_limit__isnull=False) | Q(work_pool__concurrency_limit__isnull=False)
    rows = (
        WorkQueue.objects.filter(work_pool__name=pool_name)
        .order_by("priority", "created", "pk")
        .values_list(
            "pk",
            "name",
            "priority",
            "is_paused",
            "concurrency_limit",
            Case(When(limited, then=QUEUE_SLOTS)),
            "status",
            "last_polled",
            "work_pool_id",
            "work_pool__is_paused",
            "work_pool__concurrency_limit",
        )
    )
    lines = [Line(*row) for row in rows]
    if not lines and not WorkPool.objects.filter(name=pool_name).exists():
        raise NotFound(f'Work pool "{pool_name}" not found.')
    return lines


def named(lines: list[Line], pool_name: str, names: Sequence[str]) -> list[Line]:
    """The lines with these names, in serving order; all when there are none. An unknown name: NotFound."""
    if not names:
        return lines
    known = {line.name for line in lines}
    if unknown := next((name for name in names if name not in known), None):
        raise NotFound(f"Work pool queue '{pool_name}/{unknown}' not found.")
    wanted = set(names)
    return [line for line in lines if line.name in wanted]


def runs_on_offer(lines: list[Line], considered: list[Line], window: Window) -> list[WireRow]:
    """The runs of `considered` that may start, by queue priority and start time, within every limit.

    `lines` are all queues of the pool: what runs in any of them counts against the pool's limit.
    """
    if not lines or lines[0].pool_is_paused:
        return []
    wanted = min(window.limit, MOST_RUNS)
    if (pool_limit := lines[0].pool_limit) is not None:
        wanted = min(wanted, max(0, pool_limit - sum(line.used or 0 for line in lines)))
    open_lines = [line for line in considered if not line.is_paused and line.free]
    rank = {str(line.id): line.priority for line in open_lines}
    found: list[WireRow] = []
    for start in range(0, len(open_lines) if wanted else 0, LEGS):
        # A page that is full may still be wrong where the cut went through queues of one priority.
        if len(found) >= wanted and open_lines[start].priority != open_lines[start - 1].priority:
            break
        found += offered(open_lines[start : start + LEGS], window, wanted)
    found.sort(key=lambda run: (rank[run["work_queue_id"]], moment_of(run["next_scheduled_start_time"]) or NEVER))
    return [{"work_pool_id": lines[0].pool_id, "work_queue_id": run["work_queue_id"], "flow_run": run} for run in found[:wanted]]


def offered(lines: list[Line], window: Window, limit: int) -> list[WireRow]:
    """At most `limit` runs of the lines, those of the first lines first; in no order.

    Each queue is read along the hand-out index for no more than may be returned. Both databases work through a UNION
    ALL as it is written and stop at the LIMIT, so that a queue is not read when those before it fill the page.
    """
    parts: list[str] = []
    params: list[Any] = []
    for _, tied in groupby(lines, key=lambda line: line.priority):
        legs = [leg(line, window, limit) for line in tied]
        params += [param for _, given in legs for param in given]
        part = " UNION ALL ".join(sql for sql, _ in legs)
        if len(legs) > 1:
            part = f"SELECT * FROM ({part}) AS tied ORDER BY start LIMIT {limit}"  # noqa: S608
        parts.append(f"SELECT id FROM ({part}) AS line")  # noqa: S608
    picked = RawSQL(f"SELECT id FROM ({' UNION ALL '.join(parts)} LIMIT {limit}) AS picked", params)  # noqa: S608,S611
    return SCHEDULED_RUN.many(FlowRun.objects.filter(pk__in=picked))


@cache
def leg_sql(bounds: str, postgresql: bool) -> str:
    table = FlowRun._meta.db_table
    return (
        f"SELECT * FROM (SELECT id, next_scheduled_start_time AS start FROM {table} "  # noqa: S608
        f"WHERE work_queue_id = %s AND state_type = '{StateType.SCHEDULED}'{bounds} "
        f"AND {not_retried_in_process(postgresql)} ORDER BY next_scheduled_start_time LIMIT "
    )


def not_retried_in_process(postgresql: bool) -> str:
    """A run whose process lives and waits for its retry is not for a worker."""
    if postgresql:
        return "(empirical_policy ->> 'retry_type') IS DISTINCT FROM 'in_process'"
    return "json_extract(empirical_policy, '$.retry_type') IS NOT 'in_process'"


def leg(line: Line, window: Window, limit: int) -> tuple[str, list[Any]]:
    """The keys and starts of one queue's next runs."""
    bounds, params = "", [stored(line.id)]
    for operator, moment in ((">=", window.after), ("<=", window.before)):
        if moment is not None:
            bounds += f" AND next_scheduled_start_time {operator} %s"
            params.append(connection.ops.adapt_datetimefield_value(moment))
    return f"{leg_sql(bounds, is_postgresql())}{min(limit, line.free)}) AS runs", params


def stored(key: UUID) -> Any:
    return key if is_postgresql() else key.hex


def agent_runs(queue: WorkQueue, before: datetime | None, limit: int) -> list[WireRow]:
    """What an agent may take from a queue: runs by the queue's name, in any pool, or those its old filter chooses."""
    if queue.is_paused:
        return []
    waiting = runs_for_agent(queue)
    if queue.concurrency_limit is not None:
        limit = min(limit, max(0, queue.concurrency_limit - agent_slots(queue).count()))
    due = waiting.scheduled().due(before).order_by("next_scheduled_start_time", "pk")[:limit]
    return FLOW_RUN.many(due) if limit else []


def runs_for_agent(queue: WorkQueue) -> Any:
    """The runs that belong to a queue in the eyes of an agent, in any state."""
    if not queue.filter:
        return FlowRun.objects.filter(work_queue_name=queue.name)
    runs = FlowRun.objects.filter(deployment__isnull=False)
    if tags := queue.filter.get("tags"):
        runs = runs.filter(tags__has_all=tags)
    if deployments := queue.filter.get("deployment_ids"):
        runs = runs.filter(deployment_id__in=deployments)
    return runs


def agent_slots(queue: WorkQueue) -> Any:
    """The runs that use slots of a queue in the eyes of an agent."""
    runs = runs_for_agent(queue)
    return runs.holding_pool_slots() if queue.filter else runs.filter(state_type__in=sorted(HOLDING))


def polled(queues: Iterable[tuple[UUID, str, datetime | None]]) -> None:
    """Note that somebody asked these queues (id, status, last polled) for work; they and their deployments are ready.

    Written only where it changes something. A poll has its answer before this, so a busy database costs it nothing.
    """
    now = timezone.now()
    stale = [pk for pk, status, last in queues if status == statuses.NOT_READY or not last or last < now - POLL_GRAIN]
    if not stale:
        return
    try:
        in_one_transaction(lambda: note_polled(stale, now))
    except DatabaseError:
        log.warning("A poll of %d queues could not be noted; the next one will be", len(stale), exc_info=True)


def note_polled(queue_ids: list[UUID], now: datetime) -> None:
    # Asked again here: another process may have noted the same poll meanwhile.
    old = Q(last_polled__isnull=True) | Q(last_polled__lt=now - POLL_GRAIN)
    ready = Case(When(status=statuses.NOT_READY, then=Value(statuses.READY)), default=F("status"))
    queues = WorkQueue.objects.filter(old | Q(status=statuses.NOT_READY), pk__in=queue_ids)
    free(queues).update(last_polled=now, status=ready)
    deployments = apps.get_model("deployments.Deployment")._default_manager.filter(
        old | Q(status=statuses.NOT_READY), work_queue_id__in=queue_ids
    )
    free(deployments).update(last_polled=now, status=statuses.READY)


def free(rows: QuerySet[Any]) -> QuerySet[Any]:
    """`rows` but those that another transaction holds: it writes the same, or the next poll will."""
    if not is_postgresql():
        return rows
    keys = rows.order_by().select_for_update(skip_locked=True).values_list("pk", flat=True)
    return rows.model._default_manager.filter(pk__in=list(keys))

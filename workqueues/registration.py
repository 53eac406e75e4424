"""Making pools and queues, and finding the queue that a deployment or run names.

Contract: work_pools_queues_workers.md, sections 2, 4 and 8; flows_deployments.md, section 3.3. Every verb here is
called inside a transaction.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db.models import Case, F, Value, When
from django.utils import timezone

from orchestrator.core.errors import INTEGRITY, Conflict, NotFound
from orchestrator.core.prepared import Prepared
from workqueues import priorities, statuses
from workqueues.models import Worker, WorkPool, WorkQueue
from workqueues.models.pools import AGENT_POOL, AGENT_POOL_TYPE, DEFAULT_QUEUE

DEFAULT_QUEUE_DESCRIPTION = "The work pool's default queue."
NAMED_POOL = Prepared(lambda name: WorkPool.objects.select_related("default_queue").filter(name=name), str)
QUEUE_OF_POOL = Prepared(lambda pool, name: WorkQueue.objects.filter(work_pool=pool, name=name), UUID, str)


def create_pool(name: str, **columns: Any) -> tuple[WorkPool, bool]:
    """The pool of this name with its default queue, and whether it was made now. Safe against concurrent makers."""
    queue_id = uuid4()
    pool = WorkPool(name=name, default_queue_id=queue_id, **columns)
    pool.status = None if pool.type == AGENT_POOL_TYPE else statuses.new_pool(is_paused=pool.is_paused)
    # The key to the default queue is checked at commit, so the pool may name a queue that follows it.
    WorkPool.objects.bulk_create([pool], ignore_conflicts=True)
    if not WorkPool.objects.filter(pk=pool.pk).exists():
        return WorkPool.objects.get(name=name), False
    WorkQueue.objects.create(pk=queue_id, work_pool=pool, name=DEFAULT_QUEUE, description=DEFAULT_QUEUE_DESCRIPTION, priority=1)
    return pool, True


def update_pool(pool: WorkPool, changes: dict[str, Any]) -> None:
    """Write what was sent, and the status that follows from a switched `is_paused`."""
    if (is_paused := changes.get("is_paused")) is not None and pool.type != AGENT_POOL_TYPE:
        online = pool.workers.filter(status=statuses.ONLINE).exists()
        changes = {**changes, "status": statuses.switched_pool(is_paused=is_paused, has_online_worker=online)}
    if changes:
        WorkPool.objects.filter(pk=pool.pk).update(**changes, updated=timezone.now())


def heartbeat(pool: WorkPool, name: str, interval_seconds: int | None) -> None:
    """Note that the worker of this name lives; it is made on its first sign of life, and the pool is ready by it."""
    now = timezone.now()
    told = ["heartbeat_interval_seconds"] if interval_seconds is not None else []
    Worker.objects.bulk_create(
        [
            Worker(
                work_pool=pool,
                name=name,
                last_heartbeat_time=now,
                heartbeat_interval_seconds=interval_seconds,
                status=statuses.ONLINE,
            )
        ],
        update_conflicts=True,
        unique_fields=["work_pool", "name"],
        update_fields=["last_heartbeat_time", "status", "updated", *told],
    )
    if pool.status == statuses.NOT_READY and pool.type != AGENT_POOL_TYPE:
        WorkPool.objects.filter(pk=pool.pk, status=statuses.NOT_READY).update(status=statuses.READY)


def create_queue(pool: WorkPool, name: str, *, priority: int | None = None, **columns: Any) -> WorkQueue | None:
    """A new queue of the pool, in its place in the line; None when there is one of this name.

    Without a priority it takes the lowest free one; with one, the others make room.
    """
    line = locked_line(pool.pk)
    queue = WorkQueue(work_pool=pool, name=name, **columns)
    queue.priority = priority or priorities.lowest_free(theirs for _, theirs in line)
    WorkQueue.objects.bulk_create([queue], ignore_conflicts=True)
    if not WorkQueue.objects.filter(pk=queue.pk).exists():
        return None
    if priority:
        renumber(priorities.placed([*line, (queue.pk, priority)], queue.pk, priority))
    return queue


def update_queue(queue: WorkQueue, changes: dict[str, Any], *, make_room: bool) -> None:
    """Write what was sent; with `make_room` the others move for a new priority. A null where none may be: Conflict."""
    if any(changes.get(column, "") is None for column in ("name", "description", "priority")):
        raise Conflict(INTEGRITY)
    if (name := changes.get("name", queue.name)) != queue.name:
        refuse_taken_name(queue.work_pool_id, name)
    if (is_paused := changes.get("is_paused")) is not None:
        now = timezone.now()
        changes = {
            **changes,
            "status": statuses.switched_queue(
                queue.status,
                is_paused=is_paused,
                last_polled=queue.last_polled,
                timeout=settings.QUEUE_POLLED_TIMEOUT,
                now=now,
            ),
        }
    if make_room and (priority := changes.get("priority")):
        line = locked_line(queue.work_pool_id)
        renumber(priorities.placed(line, queue.pk, priority))
    if changes:
        WorkQueue.objects.filter(pk=queue.pk).update(**changes, updated=timezone.now())


def refuse_taken_name(pool_id: UUID, name: str) -> None:
    if WorkQueue.objects.filter(work_pool=pool_id, name=name).exists():
        raise Conflict(INTEGRITY)


def delete_queue(queue: WorkQueue, *, close_ranks: bool) -> None:
    """Delete the queue; its deployments and runs stay without one. A pool's default queue: Conflict."""
    if WorkPool.objects.filter(default_queue=queue.pk).exists():
        raise Conflict(INTEGRITY)
    if close_ranks:
        renumber(priorities.removed(locked_line(queue.work_pool_id), queue.pk))
    queue.delete()


def locked_line(pool_id: UUID) -> priorities.Line[UUID]:
    """The pool's queues in serving order, with the pool locked so that two callers do not renumber at once."""
    WorkPool.objects.select_for_update().filter(pk=pool_id).values_list("pk").first()
    queues = WorkQueue.objects.filter(work_pool=pool_id).order_by("priority", "created", "pk")
    return list(queues.values_list("pk", "priority"))


def renumber(changes: dict[UUID, int]) -> None:
    if not changes:
        return
    numbers = Case(*(When(pk=pk, then=Value(priority)) for pk, priority in changes.items()), default=F("priority"))
    WorkQueue.objects.filter(pk__in=changes).update(priority=numbers)


def queue_in_pool(pool: WorkPool, name: str, create: bool) -> WorkQueue:
    """The pool's queue of this name; made at the lowest free priority if `create`, else NotFound."""
    queue = QUEUE_OF_POOL.first(pool.pk, name)
    if queue is None and create:
        queue = create_queue(pool, name) or WorkQueue.objects.get(work_pool=pool, name=name)
    if queue is None:
        raise NotFound(f"Work pool queue '{pool.name}/{name}' not found.")
    return queue


def agent_pool() -> tuple[WorkPool, bool]:
    """The pool of queues that were made without one, and whether it was made now."""
    pool = WorkPool.objects.filter(name=AGENT_POOL).first()
    return (pool, False) if pool else create_pool(AGENT_POOL, type=AGENT_POOL_TYPE)


def default_agent_queue(name: str) -> WorkQueue:
    """The agent pool's queue of this name, made at the head of the line if it is new."""
    pool, _ = agent_pool()
    queue = WorkQueue.objects.filter(work_pool=pool, name=name).first()
    return queue or create_queue(pool, name, priority=1) or WorkQueue.objects.get(work_pool=pool, name=name)


def resolve(work_pool_name: str | None, work_queue_name: str | None, create: bool) -> WorkQueue | None:
    """The queue that these names mean; None when neither is given.

    An unknown pool, or without `create` an unknown queue of a pool: NotFound.
    """
    if work_pool_name:
        pool = NAMED_POOL.first(work_pool_name)
        if pool is None:
            raise NotFound(f'Work pool "{work_pool_name}" not found.')
        return queue_in_pool(pool, work_queue_name, create) if work_queue_name else pool.default_queue
    if not work_queue_name:
        return None
    if create:
        return default_agent_queue(work_queue_name)
    return WorkQueue.objects.filter(work_pool__name=AGENT_POOL, name=work_queue_name).first()

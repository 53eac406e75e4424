"""Limits of task runs by tag: limits named `tag:<tag>`, held by task runs. Contract: concurrency_limits.md, section 4."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from orchestrator.concurrency import slots
from orchestrator.concurrency.models import TAG_PREFIX, ConcurrencyLimit, Lease

HOLDER = "task_run"


class TagClosed(Exception):
    """A tag's limit is 0: whoever waits for it waits for ever."""

    def __init__(self, tag: str) -> None:
        super().__init__(f'The concurrency limit on tag "{tag}" is 0 and will deadlock if the task tries to run again.')


class TagFull(Exception):
    """The limits of some tags are full; `seconds` until one may have a free slot."""

    def __init__(self, tags: list[str], seconds: float) -> None:
        super().__init__(f"Concurrency limit reached for tags: {', '.join(tags)}")
        self.tags = tags
        self.seconds = seconds


def of_tags(tags: Iterable[str]) -> QuerySet[ConcurrencyLimit]:
    return ConcurrencyLimit.objects.filter(name__in=[TAG_PREFIX + tag for tag in set(tags)])


def tag_of(limit: ConcurrencyLimit) -> str:
    return limit.name.removeprefix(TAG_PREFIX)


def hold(tags: Iterable[str], task_run_id: UUID) -> list[ConcurrencyLimit]:
    """Take one slot of every limit of these tags for a task run; the limits. Raises TagClosed or TagFull, and takes none.

    A refused task run is not counted as waiting: it asks again by itself.
    """
    limits = slots.locked(of_tags(tags))
    active = [limit for limit in limits if limit.active]
    if closed := next((limit for limit in active if limit.limit == 0), None):
        raise TagClosed(tag_of(closed))
    if not active:
        return limits
    if not slots.occupy(limits, 1):
        now = timezone.now()
        full = [limit for limit in active if slots.in_use(limit, now) >= limit.limit]
        longest = max(min(limit.avg_slot_occupancy_seconds, slots.longest_wait(limit)) for limit in full)
        raise TagFull([tag_of(limit) for limit in full], longest)
    slots.hold(limits, 1, slots.FOR_EVER, HOLDER, task_run_id)
    return limits


def held_by(task_run_id: UUID) -> QuerySet[Lease]:
    return Lease.objects.filter(holder_type=HOLDER, holder_id=task_run_id)


def let_go(tags: Iterable[str], task_run_id: UUID) -> None:
    """Give back what the task run holds of these tags' limits."""
    for key in held_by(task_run_id).filter(limits__in=of_tags(tags)).values_list("pk", flat=True).distinct():
        slots.give_back(key)


def holders(limit_ids: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    """The task runs that hold a slot of each of these limits now. One query."""
    held = Lease.limits.through.objects.filter(
        concurrencylimit__in=limit_ids, lease__holder_type=HOLDER, lease__expires_at__gt=timezone.now()
    ).order_by("lease__created")
    found: dict[UUID, list[Any]] = {}
    for limit_id, holder in held.values_list("concurrencylimit_id", "lease__holder_id"):
        found.setdefault(limit_id, []).append(holder)
    return found


def reset(limit: ConcurrencyLimit, holders: Iterable[UUID]) -> None:
    """End every lease of the locked limit, and let exactly these task runs hold a slot each."""
    for key in limit.leases.values_list("pk", flat=True):
        slots.give_back(key)
    chosen = list(dict.fromkeys(holders))
    limit.active_slots = len(chosen)
    limit.save(update_fields=["active_slots"])
    for holder in chosen:
        slots.hold([limit], 1, slots.FOR_EVER, HOLDER, holder)

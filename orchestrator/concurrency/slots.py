"""Slots taken and given back: of all limits named, or of none. Contract: concurrency_limits.md, section 3.

A held slot has a lease: somebody holds it until a moment. Limits are locked in key order, so that two takers of the same
limits cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Count, QuerySet
from django.utils import timezone

from orchestrator.concurrency.models import TAG_PREFIX, ConcurrencyLimit, Lease
from orchestrator.concurrency.occupancy import Queue, averaged, decayed, retry_after, still_denied

REPOSSESSED_AT_ONCE = 100
# For holders that give back by themselves.
FOR_EVER = timedelta(days=36_500)

Limits = Sequence[ConcurrencyLimit]


def in_use(limit: ConcurrencyLimit, now: datetime) -> int:
    return decayed(limit.active_slots, limit.slot_decay_per_second, (now - limit.updated).total_seconds())


def longest_wait(limit: ConcurrencyLimit) -> float:
    longest = settings.TAG_SLOT_WAIT if limit.name.startswith(TAG_PREFIX) else settings.LONGEST_SLOT_WAIT
    return longest.total_seconds()


def queue_at(limit: ConcurrencyLimit, slots: int) -> Queue:
    """What stands before a client who wants `slots` of the limit, as the limit's row has it."""
    longest = longest_wait(limit)
    occupancy = min(limit.avg_slot_occupancy_seconds, longest)
    return Queue(slots, limit.denied_slots, limit.limit, limit.slot_decay_per_second, occupancy, longest)


def denied(limit: ConcurrencyLimit, now: datetime) -> int:
    occupancy = min(limit.avg_slot_occupancy_seconds, longest_wait(limit))
    elapsed = (now - limit.updated).total_seconds()
    return still_denied(limit.denied_slots, limit.slot_decay_per_second, occupancy, elapsed)


def locked(limits: QuerySet[ConcurrencyLimit] | Iterable[UUID]) -> list[ConcurrencyLimit]:
    chosen = limits if isinstance(limits, QuerySet) else ConcurrencyLimit.objects.filter(pk__in=limits)
    return list(chosen.order_by("pk").select_for_update())


def named(names: Iterable[str]) -> list[ConcurrencyLimit]:
    """The limits of these names that exist, locked."""
    return locked(ConcurrencyLimit.objects.filter(name__in=set(names)))


def occupy(limits: Limits, slots: int) -> bool:
    """Take `slots` of every active one of these locked limits; False, with nothing taken, when one has too few.

    Holders that died do not come back to free their slots; only a full limit makes us look for them.
    """
    now = timezone.now()
    active = [limit for limit in limits if limit.active]
    if not _room(active, slots, now) and not (repossess(active, now) and _room(active, slots, now)):
        return False
    for limit in active:
        limit.active_slots, limit.denied_slots = in_use(limit, now) + slots, denied(limit, now)
        limit.save(update_fields=["active_slots", "denied_slots"])
    return True


def _room(limits: Iterable[ConcurrencyLimit], slots: int, now: datetime) -> bool:
    return all(in_use(limit, now) + slots <= limit.limit for limit in limits)


def refuse(limits: Limits, slots: int) -> float:
    """Note that `slots` of these locked limits were refused; the seconds after which to ask again."""
    now = timezone.now()
    active = [limit for limit in limits if limit.active]
    wait = retry_after([queue_at(limit, slots) for limit in active])
    for limit in active:
        # In this order: saving makes `updated` now, from which both counts fade.
        limit.active_slots, limit.denied_slots = in_use(limit, now), denied(limit, now) + slots
        limit.save(update_fields=["active_slots", "denied_slots"])
    return wait


def hold(limits: Limits, slots: int, lease: timedelta, holder_type: str | None = None, holder_id: UUID | None = None) -> Lease:
    """A lease over what was occupied."""
    held = Lease.objects.create(slots=slots, holder_type=holder_type, holder_id=holder_id, expires_at=timezone.now() + lease)
    if limits:
        held.limits.add(*limits)
    return held


def take(
    limit_ids: Iterable[UUID], slots: int = 1, *, lease: timedelta, holder_type: str = "", holder_id: UUID | None = None
) -> Lease | None:
    """A lease over `slots` of every active limit; None when one of them has too few, and then nothing is taken."""
    limits = locked(limit_ids)
    return hold(limits, slots, lease, holder_type or None, holder_id) if occupy(limits, slots) else None


def repossess(limits: Iterable[ConcurrencyLimit], now: datetime) -> int:
    """Free what expired leases of exactly these locked limits hold; how many leases went."""
    limits = list(limits)
    expired = Lease.objects.annotate(covers=Count("limits")).filter(expires_at__lt=now, covers=len(limits))
    for limit in limits:
        expired = expired.filter(pk__in=Lease.objects.filter(limits=limit).values("pk"))
    found = list(expired[:REPOSSESSED_AT_ONCE])
    Lease.objects.filter(pk__in=[lease.pk for lease in found]).delete()
    for lease in found:
        release(limits, lease.slots, (now - lease.created).total_seconds())
    return len(found)


def give_back(lease_id: UUID, *, if_expired_at: datetime | None = None) -> bool:
    """Free what a lease holds and drop it; False when there is no such lease any more, or it has not expired then."""
    held = Lease.objects.filter(pk=lease_id).first()
    if held is None:
        return False
    limits = locked(list(held.limits.values_list("pk", flat=True)))
    rows = Lease.objects.filter(pk=lease_id)
    if if_expired_at is not None:
        rows = rows.filter(expires_at__lt=if_expired_at)
    deleted, _ = rows.delete()
    if not deleted:
        return False  # somebody else gave it back, or renewed it, while we waited for the limits
    release(limits, held.slots, (timezone.now() - held.created).total_seconds())
    return True


def release(limits: Iterable[ConcurrencyLimit], slots: int = 1, occupied: float | None = None) -> None:
    """Take `slots` off the use of locked limits. `occupied` is how many seconds they were held, where that is known."""
    now = timezone.now()
    for limit in limits:
        if not limit.active:
            continue
        limit.active_slots, limit.denied_slots = max(0, in_use(limit, now) - slots), denied(limit, now)
        fields = ["active_slots", "denied_slots"]
        if occupied is not None:
            average = limit.avg_slot_occupancy_seconds
            limit.avg_slot_occupancy_seconds = averaged(average, occupied, slots, limit.limit)
            fields.append("avg_slot_occupancy_seconds")
        limit.save(update_fields=fields)


def renew(lease_id: UUID, lease: timedelta) -> bool:
    """Hold for `lease` from now; False when the lease is gone."""
    return bool(Lease.objects.filter(pk=lease_id).update(expires_at=timezone.now() + lease))

"""Slots taken and given back: of all limits named, or of none. Contract: concurrency_limits.md, section 3.

A held slot has a lease: somebody holds it until a moment. Limits are locked in key order, so that two takers of the same
limits cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import floor
from uuid import UUID

from django.db.models import Count
from django.utils import timezone

from orchestrator.concurrency.models import ConcurrencyLimit, Lease

REPOSSESSED_AT_ONCE = 100


def decayed(count: int, rate: float, elapsed: timedelta) -> int:
    """Slots still in use after `elapsed`, when `rate` of them free themselves each second."""
    return max(0, count - floor(rate * elapsed.total_seconds())) if rate else count


def in_use(limit: ConcurrencyLimit, now: datetime) -> int:
    return decayed(limit.active_slots, limit.slot_decay_per_second, now - limit.updated)


def locked(limit_ids: Iterable[UUID]) -> list[ConcurrencyLimit]:
    return list(ConcurrencyLimit.objects.filter(pk__in=limit_ids).order_by("pk").select_for_update())


def take(
    limit_ids: Iterable[UUID], slots: int = 1, *, lease: timedelta, holder_type: str = "", holder_id: UUID | None = None
) -> Lease | None:
    """A lease over `slots` of every active limit; None when one of them has too few, and then nothing is taken."""
    now = timezone.now()
    limits = locked(limit_ids)
    active = [limit for limit in limits if limit.active]
    # Holders that died do not come back to free their slots; only a full limit makes us look for them.
    if not _room(active, slots, now) and not (repossess(active, now) and _room(active, slots, now)):
        return None
    for limit in active:
        limit.active_slots = in_use(limit, now) + slots
        limit.save(update_fields=["active_slots"])
    held = Lease.objects.create(slots=slots, holder_type=holder_type or None, holder_id=holder_id, expires_at=now + lease)
    held.limits.set(limits)
    return held


def _room(limits: Iterable[ConcurrencyLimit], slots: int, now: datetime) -> bool:
    return all(in_use(limit, now) + slots <= limit.limit for limit in limits)


def repossess(limits: Iterable[ConcurrencyLimit], now: datetime) -> int:
    """Free what expired leases of exactly these locked limits hold; how many leases went."""
    limits = list(limits)
    expired = Lease.objects.annotate(covers=Count("limits")).filter(expires_at__lt=now, covers=len(limits))
    for limit in limits:
        expired = expired.filter(pk__in=Lease.objects.filter(limits=limit).values("pk"))
    found = dict(expired.values_list("pk", "slots")[:REPOSSESSED_AT_ONCE])
    Lease.objects.filter(pk__in=found).delete()
    release(limits, sum(found.values()))
    return len(found)


def give_back(lease_id: UUID) -> bool:
    """Free what a lease holds and drop it; False when there is no such lease any more."""
    held = Lease.objects.filter(pk=lease_id).first()
    if held is None:
        return False
    limits = locked(held.limits.values_list("pk", flat=True))
    deleted, _ = Lease.objects.filter(pk=lease_id).delete()
    if not deleted:
        return False  # somebody else gave it back while we waited for the limits
    release(limits, held.slots)
    return True


def release(limits: Iterable[ConcurrencyLimit], slots: int = 1) -> None:
    """Take `slots` off the use of locked limits."""
    now = timezone.now()
    for limit in limits:
        if limit.active:
            limit.active_slots = max(0, in_use(limit, now) - slots)
            limit.save(update_fields=["active_slots"])


def renew(lease_id: UUID, lease: timedelta) -> bool:
    """Hold for `lease` from now; False when the lease is gone."""
    return bool(Lease.objects.filter(pk=lease_id).update(expires_at=timezone.now() + lease))

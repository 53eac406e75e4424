"""Readiness of pools, queues and workers from the ages of their signs of life. Pure.

Source: work_pools_queues_workers.md, sections 1, 2, 4 and 7.
"""

from __future__ import annotations

from datetime import datetime, timedelta

READY, NOT_READY, PAUSED = "READY", "NOT_READY", "PAUSED"
ONLINE, OFFLINE = "ONLINE", "OFFLINE"


def silence_allowed(interval_seconds: int | None, fallback: timedelta, multiple: int) -> timedelta:
    """How long a worker may be silent before it counts as gone."""
    interval = timedelta(seconds=interval_seconds) if interval_seconds else fallback
    return interval * multiple


def worker_status(last_heartbeat: datetime, allowed: timedelta, now: datetime) -> str:
    return ONLINE if last_heartbeat > now - allowed else OFFLINE


def new_pool(*, is_paused: bool) -> str:
    return PAUSED if is_paused else NOT_READY


def switched_pool(*, is_paused: bool, has_online_worker: bool) -> str:
    """A pool's status after an operator set `is_paused`."""
    if is_paused:
        return PAUSED
    return READY if has_online_worker else NOT_READY


def switched_queue(status: str, *, is_paused: bool, last_polled: datetime | None, timeout: timedelta, now: datetime) -> str:
    """A queue's status after an operator set `is_paused`: it leaves PAUSED only by being resumed."""
    if is_paused:
        return PAUSED
    if status != PAUSED:
        return status
    return READY if recently(last_polled, timeout, now) else NOT_READY


def recently(last_polled: datetime | None, timeout: timedelta, now: datetime) -> bool:
    return last_polled is not None and last_polled >= now - timeout

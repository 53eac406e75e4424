"""The foreman: what has fallen silent is not ready. Contract: work_pools_queues_workers.md, section 7."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from orchestrator.core.databases import in_one_transaction
from orchestrator.core.loops import Loop
from workqueues import statuses
from workqueues.models import Worker, WorkPool, WorkQueue
from workqueues.models.pools import AGENT_POOL_TYPE


class Foreman(Loop):
    """Marks silent workers offline, and pools, deployments and queues that nobody asks for work not ready."""

    name = "foreman"

    def __init__(self) -> None:
        self.interval_seconds = settings.FOREMAN_LOOP.total_seconds()

    def poll(self) -> float:
        now = timezone.now()
        mark_workers(now)
        mark_pools()
        mark_deployments(now)
        mark_queues(now)
        return self.interval_seconds


def silent_workers(now: datetime) -> Any:
    """Workers marked online whose last heartbeat is too old for the interval they promised."""
    online = Worker.objects.filter(status=statuses.ONLINE)
    promised = online.order_by().values_list("heartbeat_interval_seconds", flat=True).distinct()
    too_old = Q(pk__in=[])
    for interval in promised:
        allowed = statuses.silence_allowed(interval, settings.WORKER_FALLBACK_HEARTBEAT, settings.WORKER_INACTIVITY_MULTIPLE)
        same = Q(heartbeat_interval_seconds=interval) if interval is not None else Q(heartbeat_interval_seconds=None)
        too_old |= same & Q(last_heartbeat_time__lt=earlier(now, allowed))
    return online.filter(too_old)


def earlier(now: datetime, allowed: Any) -> datetime:
    try:
        return now - allowed
    except OverflowError:
        return datetime.min.replace(tzinfo=now.tzinfo)


def mark(silent: Any, status: str) -> None:
    """Give `silent` this status; a row that came to life meanwhile is left alone. No write lock is taken for none."""
    if silent.exists():
        in_one_transaction(lambda: silent.update(status=status))


def mark_workers(now: datetime) -> None:
    mark(silent_workers(now), statuses.OFFLINE)


def mark_pools() -> None:
    online = Worker.objects.filter(work_pool=OuterRef("pk"), status=statuses.ONLINE)
    ready = WorkPool.objects.filter(status=statuses.READY).exclude(type=AGENT_POOL_TYPE)
    mark(ready.filter(~Exists(online)), statuses.NOT_READY)


def mark_deployments(now: datetime) -> None:
    old = now - settings.DEPLOYMENT_POLLED_TIMEOUT
    polled_since = WorkQueue.objects.filter(pk=OuterRef("work_queue_id"), last_polled__gte=old)
    ready = apps.get_model("deployments.Deployment")._default_manager.filter(status=statuses.READY, last_polled__lt=old)
    mark(ready.filter(~Exists(polled_since)), statuses.NOT_READY)


def mark_queues(now: datetime) -> None:
    old = now - settings.QUEUE_POLLED_TIMEOUT
    mark(WorkQueue.objects.filter(status=statuses.READY, last_polled__lt=old), statuses.NOT_READY)

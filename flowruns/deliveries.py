"""Background tasks offered to task workers, each to one at a time (contract: ui_and_misc_endpoints.md, section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from flowruns.models import TaskDelivery, TaskRun, TaskWorker
from orchestrator.core.databases import in_one_transaction

# How long a worker that was sent a run may stay silent before another gets it; its socket renews the claim.
CLAIM = timedelta(seconds=30)
# A task worker is listed for as long as its socket was seen within this time.
SEEN_WITHIN = timedelta(seconds=30)


def offer(run: TaskRun, *, again: bool) -> None:
    """Put the run into the queue of its task, or anew if it is there. Joins the caller's transaction."""
    values = {"task_key": run.task_key, "again": again, "queued": timezone.now(), "claimed_until": None}
    TaskDelivery.objects.update_or_create(run=run, defaults=values)


def claim(task_keys: Sequence[str]) -> UUID | None:
    """The task run to send next to who runs these tasks; None when none waits. Retries come first, then the oldest."""
    now = timezone.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
    waiting = TaskDelivery.objects.filter(free, task_key__in=task_keys)

    def taken() -> UUID | None:
        chosen = waiting.order_by("-again", "queued").select_for_update(skip_locked=True).values_list("pk", "run_id").first()
        if chosen is None:
            return None
        TaskDelivery.objects.filter(pk=chosen[0]).update(claimed_until=now + CLAIM)
        return chosen[1]

    return in_one_transaction(taken) if waiting.exists() else None


def keep_claim(run_id: UUID) -> None:
    TaskDelivery.objects.filter(run=run_id).update(claimed_until=timezone.now() + CLAIM)


def delivered(run_id: UUID) -> None:
    """The worker has it."""
    TaskDelivery.objects.filter(run=run_id).delete()


def give_up(run_id: UUID) -> None:
    """The worker went away before it said that it has the run: it is the next one's, before all others."""
    TaskDelivery.objects.filter(run=run_id).update(claimed_until=None, again=True)


def seen(identifier: str, task_keys: Sequence[str]) -> None:
    """Note that a task worker is connected."""
    now = timezone.now()
    if not TaskWorker.objects.filter(identifier=identifier).update(task_keys=list(task_keys), seen=now):
        TaskWorker.objects.create(identifier=identifier, task_keys=list(task_keys), seen=now)


def gone(identifier: str) -> None:
    old = timezone.now() - 10 * SEEN_WITHIN
    TaskWorker.objects.filter(Q(identifier=identifier) | Q(seen__lt=old)).delete()

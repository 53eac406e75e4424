"""Background tasks on their way to who runs them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from orchestrator.core.fields import TagsField
from orchestrator.core.rows import Row


class TaskDelivery(Row):
    """A scheduled background task that no task worker has taken yet. Source: ui_and_misc_endpoints.md, section 8.

    Who delivers it claims it for a while; a claim that runs out, because the process that held it is gone, is no claim.
    """

    run = models.OneToOneField("flowruns.TaskRun", models.CASCADE, related_name="delivery")
    task_key = models.TextField()
    # Runs that are tried again come before those that wait for their first try.
    again = models.BooleanField(default=False)
    queued = models.DateTimeField(default=timezone.now)
    claimed_until = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["task_key", "-again", "queued"], name="task_delivery_order")]

    def __str__(self) -> str:
        return self.task_key


class TaskWorker(Row):
    """A connected task worker, kept in mind for as long as it is seen."""

    identifier = models.TextField()
    task_keys = TagsField()
    seen = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["seen"], name="task_worker_seen")]

    def __str__(self) -> str:
        return self.identifier


class CachedState(Row):
    """A completed state that a task run with the same cache key may take over (legacy: clients now cache by themselves)."""

    cache_key = models.TextField()
    cache_expiration = models.DateTimeField(null=True)
    state = models.ForeignKey("flowruns.TaskRunState", models.CASCADE, related_name="+", db_constraint=False)

    class Meta:
        indexes = [models.Index(fields=["cache_key", "-created"], name="cached_state")]

    def __str__(self) -> str:
        return self.cache_key

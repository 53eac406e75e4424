"""What runs leave behind: log lines."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from orchestrator.core.identifiers import time_ordered


class Log(models.Model):
    """A line of a run's log. Run ids are not checked: a line outlives the order in which things arrive."""

    id = models.UUIDField(primary_key=True, default=time_ordered, editable=False)
    created = models.DateTimeField(default=timezone.now, editable=False)
    updated = models.DateTimeField(default=timezone.now, editable=False)
    name = models.TextField()
    level = models.SmallIntegerField()
    message = models.TextField()
    timestamp = models.DateTimeField()
    flow_run_id = models.UUIDField(null=True)
    task_run_id = models.UUIDField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["flow_run_id", "timestamp"], name="log_of_flow_run"),
            models.Index(fields=["task_run_id", "timestamp"], name="log_of_task_run"),
            models.Index(fields=["timestamp"], name="log_timestamp"),
        ]

    def __str__(self) -> str:
        return self.message[:80]

"""Workers, known by their heartbeats."""

from __future__ import annotations

from django.db import models

from orchestrator.core.rows import Row
from workqueues.models.pools import WorkPool


class WorkerStatus(models.TextChoices):
    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"


class Worker(Row):
    """A process that polls a pool. Source: work_pools_queues_workers.md, sections 1 and 7."""

    work_pool = models.ForeignKey(WorkPool, models.CASCADE, related_name="workers", db_index=False)
    name = models.TextField()
    last_heartbeat_time = models.DateTimeField()
    heartbeat_interval_seconds = models.IntegerField(null=True)
    status = models.CharField(max_length=16, choices=WorkerStatus.choices, default=WorkerStatus.ONLINE)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["work_pool", "name"], name="one_worker_per_name_in_a_pool")]
        indexes = [models.Index(fields=["work_pool", "-last_heartbeat_time"], name="worker_heartbeat")]

    def __str__(self) -> str:
        return self.name

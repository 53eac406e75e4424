"""Work pools and their queues: where runs wait."""

from __future__ import annotations

from typing import Any

from django.core.validators import MinValueValidator
from django.db import models

from orchestrator.core.rows import Row

AGENT_POOL = "default-agent-pool"
AGENT_POOL_TYPE = "prefect-agent"
DEFAULT_QUEUE = "default"


class Status(models.TextChoices):
    READY = "READY"  # somebody asks for work
    NOT_READY = "NOT_READY"  # nobody has asked for a while
    PAUSED = "PAUSED"  # work is held back by an operator


def no_storage() -> dict[str, Any]:
    return {"bundle_upload_step": None, "bundle_execution_step": None, "default_result_storage_block_id": None}


class WorkPool(Row):
    """A place where runs wait for workers of one type. Source: work_pools_queues_workers.md, section 1."""

    name = models.TextField(unique=True)
    description = models.TextField(null=True, blank=True)
    type = models.TextField(default=AGENT_POOL_TYPE)
    base_job_template = models.JSONField(default=dict, blank=True)
    is_paused = models.BooleanField(default=False)
    concurrency_limit = models.IntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    status = models.CharField(max_length=16, choices=Status.choices, null=True, default=Status.NOT_READY)
    default_queue = models.OneToOneField("workqueues.WorkQueue", models.SET_NULL, null=True, related_name="default_of")
    storage_configuration = models.JSONField(default=no_storage, blank=True)

    class Meta:
        indexes = [models.Index(fields=["type"], name="work_pool_type")]

    def __str__(self) -> str:
        return self.name


class WorkQueue(Row):
    """A line of runs inside a pool; a lower priority number is served first."""

    work_pool = models.ForeignKey(WorkPool, models.CASCADE, related_name="queues", db_index=False)
    name = models.TextField()
    description = models.TextField(default="", blank=True)
    is_paused = models.BooleanField(default=False)
    concurrency_limit = models.IntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    priority = models.IntegerField(default=1, validators=[MinValueValidator(1)])
    filter = models.JSONField(null=True, blank=True)
    last_polled = models.DateTimeField(null=True, editable=False)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.NOT_READY)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["work_pool", "name"], name="one_queue_per_name_in_a_pool")]
        indexes = [
            models.Index(fields=["name"], name="work_queue_name"),
            # Reader: the foreman, looking for ready queues that nobody polls any more.
            models.Index(fields=["status", "last_polled"], name="work_queue_readiness"),
        ]

    def __str__(self) -> str:
        return self.name

"""Deployments: what can run, with which parameters, on which queue."""

from __future__ import annotations

from typing import Any

from django.db import models

from orchestrator.core.fields import TagsField, TagsIndex
from orchestrator.core.rows import Row


class Readiness(models.TextChoices):
    READY = "READY"  # a worker or runner has asked for its runs within the last minute
    NOT_READY = "NOT_READY"


def empty_list() -> list[Any]:
    return []


class Deployment(Row):
    """A flow bound to schedules, parameters and a queue. Source: flows_deployments.md, section 2."""

    name = models.TextField()
    flow = models.ForeignKey("flowruns.Flow", models.CASCADE, related_name="deployments", db_index=False)
    version = models.TextField(null=True, blank=True)
    description = models.TextField(null=True, blank=True)
    path = models.TextField(null=True, blank=True)
    entrypoint = models.TextField(null=True, blank=True)
    paused = models.BooleanField(default=False)
    parameters = models.JSONField(default=dict, blank=True)
    parameter_openapi_schema = models.JSONField(null=True, blank=True, default=dict)
    enforce_parameter_schema = models.BooleanField(default=True)
    job_variables = models.JSONField(default=dict, blank=True)
    pull_steps = models.JSONField(null=True, blank=True, default=empty_list)
    tags = TagsField()
    labels = models.JSONField(default=dict, blank=True)
    work_queue = models.ForeignKey("workqueues.WorkQueue", models.SET_NULL, null=True, blank=True, related_name="deployments")
    work_queue_name = models.TextField(null=True, blank=True)
    concurrency_limit = models.ForeignKey(
        "concurrency.ConcurrencyLimit", models.SET_NULL, null=True, blank=True, related_name="deployments"
    )
    concurrency_options = models.JSONField(null=True, blank=True)
    storage_document = models.ForeignKey(
        "blocks.BlockDocument", models.CASCADE, null=True, blank=True, related_name="stores_deployments"
    )
    infrastructure_document = models.ForeignKey(
        "blocks.BlockDocument", models.CASCADE, null=True, blank=True, related_name="runs_deployments"
    )
    status = models.CharField(max_length=16, choices=Readiness.choices, default=Readiness.NOT_READY)
    last_polled = models.DateTimeField(null=True, editable=False)
    created_by = models.JSONField(null=True, editable=False)
    updated_by = models.JSONField(null=True, editable=False)
    # Rises with every change that makes planned runs wrong: a scheduler that planned from an older one inserts nothing.
    schedule_revision = models.BigIntegerField(default=0, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["flow", "name"], name="one_deployment_per_name_in_a_flow")]
        indexes = [
            models.Index(fields=["name"], name="deployment_name"),
            models.Index(fields=["created"], name="deployment_created"),
            models.Index(fields=["updated"], name="deployment_updated"),
            # Reader: the foreman, looking for ready deployments that nobody polls any more.
            models.Index(fields=["status", "last_polled"], name="deployment_readiness"),
            TagsIndex(fields=["tags"], name="deployment_tags"),
        ]

    def __str__(self) -> str:
        return self.name

"""What runs leave behind and are given: log lines, artifacts, inputs; what the UI's users keep."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from orchestrator.core.identifiers import time_ordered
from orchestrator.core.rows import Row


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
            models.Index(fields=["flow_run_id", "timestamp"], name="log_of_flow_run", condition=Q(flow_run_id__isnull=False)),
            models.Index(fields=["task_run_id", "timestamp"], name="log_of_task_run", condition=Q(task_run_id__isnull=False)),
            models.Index(fields=["timestamp"], name="log_timestamp"),
        ]

    def __str__(self) -> str:
        return self.message[:80]


class Shown(Row):
    """What an artifact and the latest of its key have in common. Run ids are not checked: artifacts outlive their runs."""

    type = models.TextField(null=True)
    description = models.TextField(null=True)
    data = models.JSONField(null=True)
    metadata = models.JSONField(null=True)
    flow_run_id = models.UUIDField(null=True)
    task_run_id = models.UUIDField(null=True)

    class Meta:
        abstract = True


class Artifact(Shown):
    """Something a run made to be looked at, or the description of its result. Source: logs_artifacts_misc.md, section 2."""

    id = models.UUIDField(primary_key=True, default=time_ordered, editable=False)
    key = models.TextField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["key", "created"], name="artifact_key"),
            models.Index(fields=["created"], name="artifact_created"),
            models.Index(fields=["updated"], name="artifact_updated"),
            models.Index(fields=["flow_run_id"], name="artifact_of_flow_run"),
            models.Index(fields=["task_run_id"], name="artifact_of_task_run"),
        ]

    def __str__(self) -> str:
        return self.key or self.type or "artifact"


class LatestArtifact(Shown):
    """The newest artifact of a key, repeated, so that a list of keys is a list of rows."""

    key = models.TextField(unique=True)
    latest = models.ForeignKey(Artifact, models.DO_NOTHING, related_name="+", db_constraint=False)

    class Meta:
        indexes = [
            models.Index(fields=["created"], name="latest_artifact_created"),
            models.Index(fields=["updated"], name="latest_artifact_updated"),
            models.Index(fields=["flow_run_id"], name="latest_artifact_of_flow_run"),
        ]

    def __str__(self) -> str:
        return self.key


class FlowRunInput(Row):
    """A value that somebody hands to a flow run. Source: ui_and_misc_endpoints.md, section 7."""

    flow_run = models.ForeignKey("flowruns.FlowRun", models.CASCADE, related_name="inputs", db_index=False)
    key = models.TextField()
    value = models.TextField()
    sender = models.TextField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["flow_run", "key"], name="one_input_per_key")]

    def __str__(self) -> str:
        return self.key


class SavedSearch(Row):
    """Filters that somebody keeps under a name. Source: logs_artifacts_misc.md, section 3."""

    name = models.TextField(unique=True)
    filters = models.JSONField(default=list)

    def __str__(self) -> str:
        return self.name

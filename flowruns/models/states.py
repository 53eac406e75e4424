"""State history: one row for every state a run was in, never changed."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from flowruns.states import StateType
from orchestrator.core.identifiers import time_ordered


class State(models.Model):
    """A state a run was in. `details` is the wire's `state_details`; `data` the result's description or null."""

    id = models.UUIDField(primary_key=True, default=time_ordered, editable=False)
    type = models.CharField(max_length=16, choices=[(t.value, t.value) for t in StateType])
    name = models.TextField()
    timestamp = models.DateTimeField(default=timezone.now)
    message = models.TextField(null=True)
    details = models.JSONField(default=dict)
    data = models.JSONField(null=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class FlowRunState(State):
    run = models.ForeignKey("flowruns.FlowRun", models.CASCADE, related_name="states", db_index=False)

    class Meta:
        # Reader: the history of a run, in order. No two states of a run share a timestamp.
        constraints = [
            models.UniqueConstraint(fields=["run", "timestamp"], name="one_flow_run_state_per_timestamp"),
        ]


class TaskRunState(State):
    run = models.ForeignKey("flowruns.TaskRun", models.CASCADE, related_name="states", db_index=False)

    class Meta:
        indexes = [models.Index(fields=["run", "timestamp"], name="task_run_state_history")]

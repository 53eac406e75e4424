"""Flow runs and task runs. Their states are written by `flowruns.orchestration` alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce

from flowruns.states import StateType
from orchestrator.core.fields import TagsField, TagsIndex, Unindexed
from orchestrator.core.identifiers import random_name
from orchestrator.core.rows import Row

# All that history and lateness read of a run, so that they read an index alone.
HISTORY = (
    "expected_start_time",
    "state_type",
    "state_name",
    "total_run_seconds",
    "start_delay_seconds",
    "state_timestamp",
)


FEW_DEPLOYMENTS = 20


class RunQuerySet(models.QuerySet["FlowRun"]):
    def scheduled(self) -> Self:
        return self.filter(state_type=StateType.SCHEDULED)

    def due(self, before: datetime | None) -> Self:
        """Runs whose next start is at or before `before`; all of them when it is None."""
        return self if before is None else self.filter(next_scheduled_start_time__lte=before)

    def of_deployments(self, keys: Sequence[UUID]) -> Self:
        """Runs of these deployments. Of many, the due runs are walked in time; of few, each deployment's are sought."""
        if len(keys) <= FEW_DEPLOYMENTS:
            return self.filter(deployment_id__in=keys)
        return self.annotate(owner=Unindexed("deployment_id")).filter(owner__among=keys)

    def holding_pool_slots(self) -> Self:
        return self.filter(state_type__in=(StateType.PENDING, StateType.RUNNING))

    def unstarted(self) -> Self:
        """Scheduled runs that nobody has begun: what a purge may delete (schedules_scheduler.md, section 4)."""
        return self.scheduled().filter(run_count=0).exclude(state_name="AwaitingConcurrencySlot")

    def made_by_schedule(self) -> Self:
        return self.filter(auto_scheduled=True)


class Run(Row):
    """What flow runs and task runs share. The `state_*` columns repeat the current state for filters and counts."""

    name = models.TextField(default=random_name)
    empirical_policy = models.JSONField(default=dict)
    tags = TagsField()
    labels = models.JSONField(default=dict, blank=True)
    state_type = models.CharField(max_length=16, null=True, choices=[(t.value, t.value) for t in StateType])
    state_name = models.TextField(null=True)
    state_timestamp = models.DateTimeField(null=True)
    run_count = models.IntegerField(default=0)
    expected_start_time = models.DateTimeField(null=True)
    next_scheduled_start_time = models.DateTimeField(null=True)
    start_time = models.DateTimeField(null=True)
    end_time = models.DateTimeField(null=True)
    total_run_seconds = models.FloatField(default=0)
    # Seconds between expected and real start, once started; the lateness of a page of runs is then plain arithmetic.
    start_delay_seconds = models.FloatField(null=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class FlowRun(Run):
    """One execution of a flow: what ran, is running and will. Source: runs_states_orchestration.md, section 1.2."""

    flow = models.ForeignKey("flowruns.Flow", models.CASCADE, related_name="runs", db_index=False)
    state = models.ForeignKey(
        "flowruns.FlowRunState", models.DO_NOTHING, null=True, db_constraint=False, related_name="+", db_index=False
    )
    # Runs outlive their deployment with its id in them, so the database holds no key to it.
    deployment = models.ForeignKey(
        "deployments.Deployment", models.DO_NOTHING, null=True, db_constraint=False, related_name="runs", db_index=False
    )
    deployment_version = models.TextField(null=True)
    work_queue = models.ForeignKey("workqueues.WorkQueue", models.SET_NULL, null=True, related_name="runs", db_index=False)
    work_queue_name = models.TextField(null=True)
    flow_version = models.TextField(null=True)
    parameters = models.JSONField(default=dict)
    idempotency_key = models.TextField(null=True)
    context = models.JSONField(default=dict)
    parent_task_run = models.ForeignKey("flowruns.TaskRun", models.SET_NULL, null=True, related_name="subflow_runs")
    auto_scheduled = models.BooleanField(default=False)
    # Digest of the deployment's schedule that made this run; it survives a redeploy that makes the schedule anew.
    schedule_identity = models.UUIDField(null=True)
    infrastructure_document_id = models.UUIDField(null=True)
    infrastructure_pid = models.TextField(null=True)
    job_variables = models.JSONField(default=dict)
    created_by = models.JSONField(null=True)
    effective_start = models.GeneratedField(
        expression=Coalesce("start_time", "expected_start_time"), output_field=models.DateTimeField(), db_persist=True
    )

    objects = RunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["flow", "idempotency_key"], name="one_run_per_idempotency_key"),
            models.UniqueConstraint(
                fields=["schedule_identity", "expected_start_time"],
                condition=Q(schedule_identity__isnull=False),
                name="one_run_per_schedule_and_fire_time",
            ),
        ]
        indexes = [
            # Hand-out to workers, slots in use of a queue.
            models.Index(fields=["work_queue", "state_type", "next_scheduled_start_time"], name="flow_run_hand_out"),
            # Runner polls, purges, runs of a deployment.
            models.Index(fields=["deployment", "state_type", "next_scheduled_start_time"], name="flow_run_of_deployment"),
            # Lists filtered by state, in the default order and by start; counts by state and window.
            models.Index(fields=["state_type", "id"], name="flow_run_state_id"),
            models.Index(fields=["state_type", "effective_start"], name="flow_run_state_start"),
            models.Index(fields=["effective_start"], name="flow_run_start"),
            # History buckets; EXPECTED_START_TIME sorts.
            models.Index(fields=[*HISTORY], name="flow_run_expected"),
            # END_TIME_DESC, cancellation clean-up, retention.
            models.Index(fields=["end_time"], name="flow_run_end", condition=Q(end_time__isnull=False)),
            models.Index(fields=["name"], name="flow_run_name"),
            # Late marking, polls of runners with many deployments.
            models.Index(
                fields=["state_type", "next_scheduled_start_time", "deployment"],
                name="flow_run_next",
                condition=Q(next_scheduled_start_time__isnull=False),
            ),
            TagsIndex(fields=["tags"], name="flow_run_tags"),
        ]


class TaskRun(Run):
    """One execution of a task, mostly inside a flow run. Source: runs_states_orchestration.md, section 1.3."""

    flow_run = models.ForeignKey("flowruns.FlowRun", models.CASCADE, null=True, related_name="task_runs", db_index=False)
    state = models.ForeignKey(
        "flowruns.TaskRunState", models.DO_NOTHING, null=True, db_constraint=False, related_name="+", db_index=False
    )
    task_key = models.TextField()
    dynamic_key = models.TextField()
    cache_key = models.TextField(null=True)
    cache_expiration = models.DateTimeField(null=True)
    task_version = models.TextField(null=True)
    task_inputs = models.JSONField(default=dict)
    flow_run_run_count = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["flow_run", "task_key", "dynamic_key"], name="one_task_run_per_key"),
            models.UniqueConstraint(
                fields=["task_key", "dynamic_key"],
                condition=Q(flow_run__isnull=True),
                name="one_task_run_per_key_outside_flows",
            ),
        ]
        indexes = [
            models.Index(fields=["state_type", "id"], name="task_run_state_id"),
            models.Index(fields=["start_time"], name="task_run_start"),
            models.Index(fields=[*HISTORY], name="task_run_expected"),
            models.Index(fields=["end_time"], name="task_run_end"),
            models.Index(fields=["name"], name="task_run_name"),
        ]

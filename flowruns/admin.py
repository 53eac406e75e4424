"""Flows and runs for operators: what is late, stuck or failing, and what to do about it."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from flowruns.models import Artifact, Flow, FlowRun, FlowRunState, LatestArtifact, Log, TaskRun, TaskRunState, TaskWorker
from flowruns.orchestration import engine
from flowruns.orchestration.proposal import ProposedState
from flowruns.states import HOLDING, StateType
from orchestrator.core.errors import Conflict
from orchestrator.core.modeladmin import ReadOnlyAdmin, ReadOnlyInline, RowAdmin, as_json, link, link_to_list

COLOURS = {
    "SCHEDULED": "info",
    "PENDING": "info",
    "RUNNING": "info",
    "COMPLETED": "success",
    "FAILED": "danger",
    "CRASHED": "danger",
    "CANCELLED": "warning",
    "CANCELLING": "warning",
    "PAUSED": "warning",
}
SEVERITIES = {"WARNING": "warning", "ERROR": "danger", "CRITICAL": "danger", "INFO": "info"}
STUCK_AFTER = timedelta(minutes=10)
LATE_AFTER = timedelta(seconds=15)


class Question(admin.SimpleListFilter):
    """The questions asked at three in the morning."""

    title = "question"
    parameter_name = "question"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("late", "late: should have started"),
            ("stuck", "stuck: pending or cancelling for ten minutes"),
            ("failing", "failed or crashed in the last day"),
            ("next", "next: scheduled from now on"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FlowRun]) -> QuerySet[FlowRun]:
        now = timezone.now()
        match self.value():
            case "late":
                due = queryset.filter(state_type=StateType.SCHEDULED, next_scheduled_start_time__lt=now - LATE_AFTER)
                return due.order_by("next_scheduled_start_time")
            case "stuck":
                waiting = HOLDING - {StateType.RUNNING}
                return queryset.filter(state_type__in=waiting, state_timestamp__lt=now - STUCK_AFTER)
            case "failing":
                failed = (StateType.FAILED, StateType.CRASHED)
                return queryset.filter(state_type__in=failed, end_time__gte=now - timedelta(days=1))
            case "next":
                waiting_runs = queryset.filter(state_type=StateType.SCHEDULED, next_scheduled_start_time__gte=now)
                return waiting_runs.order_by("next_scheduled_start_time")
        return queryset


class StateInline(ReadOnlyInline):
    model = FlowRunState
    fields = ("timestamp", "type", "name", "message")
    readonly_fields = fields
    ordering = ("timestamp",)
    verbose_name_plural = "History"


@admin.register(Flow)
class FlowAdmin(RowAdmin):
    list_display = ("name", "tags", "runs_of", "deployments_of", "created")
    search_fields = ("name",)
    fields = ("name", "tags", "labels", "id", "created", "updated")
    readonly_fields = ("name", "labels", "id", "created", "updated")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Runs")
    def runs_of(self, flow: Flow) -> str:
        return link_to_list(FlowRun, "runs", flow__id__exact=flow.pk)

    @display(description="Deployments")
    def deployments_of(self, flow: Flow) -> str:
        related = Flow._meta.get_field("deployments").related_model
        return link_to_list(related, "deployments", flow__id__exact=flow.pk)


@admin.register(FlowRun)
class FlowRunAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "shown_state",
        "flow_link",
        "deployment_link",
        "queue_link",
        "expected_start_time",
        "start_time",
        "duration",
    )
    list_filter = (Question, "state_type", "auto_scheduled")
    list_select_related = ("flow", "deployment", "work_queue")
    search_fields = ("name__startswith", "id")
    search_help_text = "Name from its beginning, or id"
    inlines = (StateInline,)
    actions = ("cancel", "crash", "run_again")
    fields = (
        ("name", "id"),
        ("shown_state", "duration"),
        ("flow_link", "deployment_link", "queue_link"),
        ("expected_start_time", "next_scheduled_start_time"),
        ("start_time", "end_time"),
        ("run_count", "auto_scheduled"),
        "shown_creator",
        ("infrastructure_pid", "idempotency_key"),
        "tags",
        "shown_parameters",
        "shown_job_variables",
        "shown_labels",
        "shown_policy",
        ("logs_of", "task_runs_of"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[FlowRun]:
        return super().get_queryset(request).defer("context", "labels")

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup in {
            "flow__id__exact",
            "deployment__id__exact",
            "work_queue__id__exact",
        } or super().lookup_allowed(lookup, value, request)

    @display(description="State", label=COLOURS, ordering="state_type")
    def shown_state(self, run: FlowRun) -> tuple[str, str]:
        return run.state_type or "", run.state_name or "none"

    @display(description="Flow")
    def flow_link(self, run: FlowRun) -> str:
        return link(run.flow)

    @display(description="Deployment")
    def deployment_link(self, run: FlowRun) -> str:
        return link(run.deployment)

    @display(description="Queue")
    def queue_link(self, run: FlowRun) -> str:
        return link(run.work_queue, run.work_queue_name or "")

    @display(description="Run time")
    def duration(self, run: FlowRun) -> str:
        seconds = run.total_run_seconds
        if run.state_type == StateType.RUNNING and run.state_timestamp:
            seconds += (timezone.now() - run.state_timestamp).total_seconds()
        return str(timedelta(seconds=round(seconds))) if seconds else "–"

    @display(description="Parameters")
    def shown_parameters(self, run: FlowRun) -> str:
        return as_json(run.parameters)

    @display(description="Created by")
    def shown_creator(self, run: FlowRun) -> str:
        return as_json(run.created_by)

    @display(description="Job variables")
    def shown_job_variables(self, run: FlowRun) -> str:
        return as_json(run.job_variables)

    @display(description="Labels")
    def shown_labels(self, run: FlowRun) -> str:
        return as_json(run.labels)

    @display(description="Policy")
    def shown_policy(self, run: FlowRun) -> str:
        return as_json(run.empirical_policy)

    @display(description="Logs")
    def logs_of(self, run: FlowRun) -> str:
        return link_to_list(Log, "log lines", flow_run_id__exact=run.pk)

    @display(description="Task runs")
    def task_runs_of(self, run: FlowRun) -> str:
        return link_to_list(TaskRun, "task runs", flow_run__id__exact=run.pk)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("flowruns.change_flowrun")

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, runs: QuerySet[FlowRun]) -> None:
        state = ProposedState(type=StateType.CANCELLING, message="Cancelled by an operator")
        self.do_each(request, runs, lambda run: propose(run, state), "runs cancelled or asked to stop")

    @admin.action(description="Mark as crashed", permissions=["operate"])
    def crash(self, request: HttpRequest, runs: QuerySet[FlowRun]) -> None:
        state = ProposedState(type=StateType.CRASHED, message="Marked as crashed by an operator")
        self.do_each(request, runs, lambda run: propose(run, state), "runs marked as crashed")

    @admin.action(description="Run again", permissions=["operate"])
    def run_again(self, request: HttpRequest, runs: QuerySet[FlowRun]) -> None:
        state = ProposedState(type=StateType.SCHEDULED, name="AwaitingRetry", message="Run again by an operator")
        self.do_each(request, runs, lambda run: propose(run, state), "runs scheduled again")


def propose(run: FlowRun, state: ProposedState) -> None:
    """Propose `state`; a refusal is an error with the rule's reason."""
    result = engine.propose(run.pk, state)
    if not result.written:
        raise Conflict(result.body()["details"].get("reason") or result.body()["status"])


@admin.register(TaskRun)
class TaskRunAdmin(ReadOnlyAdmin):
    list_display = ("name", "shown_state", "run_link", "start_time", "end_time", "run_count")
    list_filter = ("state_type",)
    list_select_related = ("flow_run",)
    search_fields = ("name__startswith", "id")

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup == "flow_run__id__exact" or super().lookup_allowed(lookup, value, request)

    @display(description="State", label=COLOURS)
    def shown_state(self, run: TaskRun) -> tuple[str, str]:
        return run.state_type or "", run.state_name or "none"

    @display(description="Flow run")
    def run_link(self, run: TaskRun) -> str:
        return link(run.flow_run)


@admin.register(Log)
class LogAdmin(ReadOnlyAdmin):
    list_display = ("timestamp", "severity", "name", "message")
    list_filter = ("level",)
    ordering = ("timestamp",)

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup == "flow_run_id__exact" or super().lookup_allowed(lookup, value, request)

    @display(description="Level", label=SEVERITIES, ordering="level")
    def severity(self, line: Log) -> str:
        return logging.getLevelName(line.level)


@admin.register(FlowRunState, TaskRunState)
class StateAdmin(ReadOnlyAdmin):
    list_display = ("timestamp", "shown_type", "name", "message", "run_link")
    list_filter = ("type",)
    list_select_related = ("run",)
    ordering = ("-pk",)
    exclude = ("details", "data")
    readonly_fields = ("shown_details", "shown_data")

    @display(description="Type", label=COLOURS, ordering="type")
    def shown_type(self, state: FlowRunState | TaskRunState) -> str:
        return state.type

    @display(description="Run")
    def run_link(self, state: FlowRunState | TaskRunState) -> str:
        return link(state.run)

    @display(description="Details")
    def shown_details(self, state: FlowRunState | TaskRunState) -> str:
        return as_json(state.details)

    @display(description="Data")
    def shown_data(self, state: FlowRunState | TaskRunState) -> str:
        return as_json(state.data)


class ShownAdmin(ReadOnlyAdmin):
    """What artifacts and the latest of each key have in common."""

    list_filter = ("type",)
    search_fields = ("key__startswith",)
    fields = ("key", "type", "description", "shown_data", "run_of", "created", "updated")

    @display(description="Data")
    def shown_data(self, artifact: Artifact | LatestArtifact) -> str:
        return as_json(artifact.data)

    @display(description="Run")
    def run_of(self, artifact: Artifact | LatestArtifact) -> str:
        return link_to_list(FlowRun, "run", q=artifact.flow_run_id) if artifact.flow_run_id else "–"


@admin.register(Artifact)
class ArtifactAdmin(ShownAdmin):
    list_display = ("created", "key", "type", "description", "run_of")


@admin.register(LatestArtifact)
class LatestArtifactAdmin(ShownAdmin):
    list_display = ("key", "type", "description", "updated", "run_of")


@admin.register(TaskWorker)
class TaskWorkerAdmin(ReadOnlyAdmin):
    list_display = ("identifier", "task_keys", "seen")
    ordering = ("-seen",)

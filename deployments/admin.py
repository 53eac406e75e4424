"""Deployments and schedules for operators: what runs next, and how to hold it."""

from __future__ import annotations

from itertools import islice
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.decorators import display

from deployments import registration, running, scheduling
from deployments.models import Deployment, DeploymentSchedule
from deployments.timetable import in_words, parse
from flowruns.models import FlowRun
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.modeladmin import ReadOnlyInline, RowAdmin, as_json, link, link_to_list

FIRES_SHOWN = 10


def next_fires(schedule: DeploymentSchedule) -> list[str]:
    """The next ten times of a schedule, in its own zone; why there are none when there are none."""
    try:
        times = islice(parse(schedule.schedule).after(timezone.now()), FIRES_SHOWN)
        return [moment.strftime("%a %d %b %Y %H:%M:%S %Z") for moment in times] or ["never"]
    except ValueError as error:
        return [str(error)]


class ScheduleInline(ReadOnlyInline):
    model = DeploymentSchedule
    fields = ("slug", "words", "active", "refill_at", "error")
    readonly_fields = fields
    ordering = ("-updated",)

    @display(description="Schedule")
    def words(self, schedule: DeploymentSchedule) -> str:
        return in_words(schedule.schedule)


@admin.register(Deployment)
class DeploymentAdmin(RowAdmin):
    list_display = ("name", "flow_link", "readiness", "held", "queue_link", "schedule_count", "last_polled", "runs_of")
    list_filter = ("status", "paused")
    list_select_related = ("flow", "work_queue__work_pool")
    search_fields = ("name", "flow__name")
    inlines = (ScheduleInline,)
    actions = ("pause", "resume", "run_now", "schedule_horizon")
    fields = (
        ("name", "flow_link", "id"),
        ("readiness", "held", "last_polled"),
        ("queue_link", "pool_link"),
        "description",
        "version",
        ("entrypoint", "path"),
        "tags",
        "shown_parameters",
        "shown_job_variables",
        "shown_schema",
        "runs_of",
        ("created", "updated"),
    )
    readonly_fields = tuple(
        name for group in fields for name in (group if isinstance(group, tuple) else (group,)) if name not in {"description"}
    )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return lookup == "flow__id__exact" or super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).prefetch_related("schedules")

    def delete_model(self, request: HttpRequest, deployment: Deployment) -> None:
        registration.delete_deployment(deployment.pk)

    def delete_queryset(self, request: HttpRequest, deployments: QuerySet[Deployment]) -> None:
        keys = list(deployments.values_list("pk", flat=True))
        in_one_transaction(lambda: registration.delete_deployments(keys))

    @display(description="Flow")
    def flow_link(self, deployment: Deployment) -> str:
        return link(deployment.flow)

    @display(description="Status", label={"READY": "success", "NOT_READY": "warning"})
    def readiness(self, deployment: Deployment) -> str:
        return deployment.status

    @display(description="Held", label={"PAUSED": "warning", "no": "info"})
    def held(self, deployment: Deployment) -> str:
        return "PAUSED" if deployment.paused else "no"

    @display(description="Queue")
    def queue_link(self, deployment: Deployment) -> str:
        return link(deployment.work_queue)

    @display(description="Pool")
    def pool_link(self, deployment: Deployment) -> str:
        return link(deployment.work_queue and deployment.work_queue.work_pool)

    @display(description="Schedules")
    def schedule_count(self, deployment: Deployment) -> str:
        schedules = deployment.schedules.all()
        broken = sum(1 for schedule in schedules if schedule.error)
        return f"{len(schedules)}, {broken} broken" if broken else str(len(schedules))

    @display(description="Runs")
    def runs_of(self, deployment: Deployment) -> str:
        return link_to_list(FlowRun, "runs", deployment__id__exact=deployment.pk)

    @display(description="Parameters")
    def shown_parameters(self, deployment: Deployment) -> str:
        return as_json(deployment.parameters)

    @display(description="Job variables")
    def shown_job_variables(self, deployment: Deployment) -> str:
        return as_json(deployment.job_variables)

    @display(description="Parameter schema")
    def shown_schema(self, deployment: Deployment) -> str:
        return as_json(deployment.parameter_openapi_schema)

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, deployments: QuerySet[Deployment]) -> None:
        self.do_each(request, deployments, lambda row: registration.pause(row.pk), "deployments paused")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, deployments: QuerySet[Deployment]) -> None:
        self.do_each(request, deployments, lambda row: registration.resume(row.pk), "deployments resumed")

    @admin.action(description="Run now", permissions=["change"])
    def run_now(self, request: HttpRequest, deployments: QuerySet[Deployment]) -> None:
        self.do_each(request, deployments, lambda row: running.run_now(row.pk), "runs created")

    @admin.action(description="Schedule the default horizon", permissions=["change"])
    def schedule_horizon(self, request: HttpRequest, deployments: QuerySet[Deployment]) -> None:
        self.do_each(
            request,
            deployments,
            lambda row: scheduling.schedule_range(row.pk, None, None, None, None, None),
            "deployments scheduled",
        )


@admin.register(DeploymentSchedule)
class DeploymentScheduleAdmin(RowAdmin):
    list_display = ("words", "deployment_link", "active", "slug", "refill_at", "error")
    list_filter = ("active", ("error", admin.EmptyFieldListFilter))
    list_select_related = ("deployment",)
    search_fields = ("slug", "deployment__name")
    fields = (
        "deployment_link",
        "words",
        "slug",
        "active",
        "shown_schedule",
        "shown_parameters",
        "fires",
        "refill_at",
        "error",
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Schedule")
    def words(self, schedule: DeploymentSchedule) -> str:
        return in_words(schedule.schedule)

    @display(description="Deployment")
    def deployment_link(self, schedule: DeploymentSchedule) -> str:
        return link(schedule.deployment)

    @display(description="As stored")
    def shown_schedule(self, schedule: DeploymentSchedule) -> str:
        return as_json(schedule.schedule)

    @display(description="Parameters")
    def shown_parameters(self, schedule: DeploymentSchedule) -> str:
        return as_json(schedule.parameters)

    @display(description="Next fire times")
    def fires(self, schedule: DeploymentSchedule) -> str:
        return format_html("<ol>{}</ol>", format_html_join("", "<li>{}</li>", ((text,) for text in next_fires(schedule))))

"""Pools, queues and workers for operators: where work waits, and who takes it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from flowruns.models import FlowRun
from orchestrator.core.modeladmin import ReadOnlyInline, RowAdmin, as_json, link, link_to_list
from workqueues import registration
from workqueues.models import Worker, WorkPool, WorkQueue

COLOURS = {"READY": "success", "ONLINE": "success", "NOT_READY": "warning", "PAUSED": "info", "OFFLINE": "danger"}


class QueueInline(ReadOnlyInline):
    model = WorkQueue
    fields = ("name", "priority", "status", "is_paused", "concurrency_limit", "last_polled")
    readonly_fields = fields
    ordering = ("priority",)


class WorkerInline(ReadOnlyInline):
    model = Worker
    fields = ("name", "status", "last_heartbeat_time", "heartbeat_interval_seconds")
    readonly_fields = fields
    ordering = ("-last_heartbeat_time",)


@admin.register(WorkPool)
class WorkPoolAdmin(RowAdmin):
    list_display = ("name", "type", "shown_status", "workers_online", "concurrency_limit", "created")
    list_filter = ("status", "type", "is_paused")
    search_fields = ("name",)
    inlines = (QueueInline, WorkerInline)
    actions = ("pause", "resume")
    fields = ("name", "type", "description", "concurrency_limit", "shown_status", "shown_template", "id", "created")
    readonly_fields = ("name", "type", "shown_status", "shown_template", "id", "created")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkPool]:
        online = Count("workers", filter=Q(workers__status="ONLINE"))
        return super().get_queryset(request).annotate(online=online)

    @display(description="Status", label=COLOURS)
    def shown_status(self, pool: WorkPool) -> str:
        return pool.status or "–"

    @display(description="Workers online", ordering="online")
    def workers_online(self, pool: Any) -> int:
        return pool.online

    @display(description="Base job template")
    def shown_template(self, pool: WorkPool) -> str:
        return as_json(pool.base_job_template)

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, pools: QuerySet[WorkPool]) -> None:
        self.do_each(request, pools, lambda pool: registration.update_pool(pool, {"is_paused": True}), "pools paused")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, pools: QuerySet[WorkPool]) -> None:
        self.do_each(request, pools, lambda pool: registration.update_pool(pool, {"is_paused": False}), "pools resumed")


@admin.register(WorkQueue)
class WorkQueueAdmin(RowAdmin):
    list_display = ("name", "pool_link", "priority", "shown_status", "concurrency_limit", "last_polled", "runs_of")
    list_filter = ("status", "is_paused")
    list_select_related = ("work_pool",)
    search_fields = ("name", "work_pool__name")
    fields = (
        "name",
        "pool_link",
        "description",
        "concurrency_limit",
        "priority",
        "shown_status",
        "last_polled",
        "runs_of",
    )
    readonly_fields = ("name", "pool_link", "priority", "shown_status", "last_polled", "runs_of")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Pool")
    def pool_link(self, queue: WorkQueue) -> str:
        return link(queue.work_pool)

    @display(description="Status", label=COLOURS)
    def shown_status(self, queue: WorkQueue) -> str:
        return queue.status

    @display(description="Runs")
    def runs_of(self, queue: WorkQueue) -> str:
        return link_to_list(FlowRun, "runs", work_queue__id__exact=queue.pk)


@admin.register(Worker)
class WorkerAdmin(RowAdmin):
    list_display = ("name", "pool_link", "shown_status", "last_heartbeat_time", "heartbeat_interval_seconds")
    list_filter = ("status",)
    list_select_related = ("work_pool",)
    search_fields = ("name",)
    ordering = ("-last_heartbeat_time",)
    fields = ("name", "pool_link", "shown_status", "last_heartbeat_time", "heartbeat_interval_seconds")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Pool")
    def pool_link(self, worker: Worker) -> str:
        return link(worker.work_pool)

    @display(description="Status", label=COLOURS)
    def shown_status(self, worker: Worker) -> str:
        return worker.status

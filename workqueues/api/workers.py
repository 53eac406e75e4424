"""`/work_pools/{pool}/workers`. Contract: work_pools_queues_workers.md, section 7."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.core.errors import NotFound
from orchestrator.core.viewsets import FilterActions, documented, writes
from workqueues.api.pools import pool_named
from workqueues.models import Worker
from workqueues.projections import WORKER
from workqueues.registration import heartbeat
from workqueues.schemas import Heartbeat


class WorkerViewSet(FilterActions):
    projection = WORKER
    keys = ("workers",)
    ordering = ("-last_heartbeat_time", "pk")

    def queryset(self) -> QuerySet[Any]:
        return Worker.objects.filter(work_pool=pool_named(self.kwargs["pool_name"]).pk)

    def filter(self, request: Request, pool_name: str) -> HttpResponse:  # type: ignore[override]
        return super().filter(request)

    @documented(body=Heartbeat, status=204, summary="Tell that a worker lives")
    @writes
    def heartbeat(self, request: Request, pool_name: str) -> HttpResponse:
        body = self.body(Heartbeat)
        heartbeat(pool_named(pool_name), body.name, body.heartbeat_interval_seconds)
        return self.nothing()

    @writes
    def destroy(self, request: Request, pool_name: str, name: str) -> HttpResponse:
        deleted, _ = Worker.objects.filter(work_pool__name=pool_name, name=name).delete()
        if not deleted:
            raise NotFound("Worker not found.")
        return self.nothing()

"""`/work_pools/{pool}/queues`. Contract: work_pools_queues_workers.md, section 4."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.core.errors import Conflict, NotFound
from orchestrator.core.filters import RowFilter
from orchestrator.core.projection import WireRow
from orchestrator.core.viewsets import FilterActions, documented, writes
from workqueues.api.pools import pool_named
from workqueues.models import WorkQueue
from workqueues.projections import WORK_QUEUE
from workqueues.registration import create_queue, delete_queue, update_queue
from workqueues.schemas import WorkQueueCreate, WorkQueueUpdate


def columns_of(body: WorkQueueCreate) -> dict[str, Any]:
    return {
        "description": body.description or "",
        "is_paused": body.is_paused,
        "concurrency_limit": body.concurrency_limit,
        "filter": body.filter.stored() if body.filter else None,
    }


def changes_of(body: WorkQueueUpdate) -> dict[str, Any]:
    changes = body.given()
    if "filter" in changes:
        changes["filter"] = body.filter.stored() if body.filter else None
    return changes


class QueueRows(FilterActions):
    """Lists of queues; their filter is called `work_queues` here and `work_pool_queues` elsewhere."""

    keys = ("work_queues",)

    def matching(self, body: Any, rows: QuerySet[Any] | None = None) -> QuerySet[Any]:
        wire = {} if body.work_queues is None else {"work_pool_queues": body.work_queues}
        return RowFilter.for_key("work_pool_queues").select(self.queryset() if rows is None else rows, wire)

    def row(self, key: Any) -> WireRow:
        found = self.rows(WorkQueue.objects.filter(pk=key))
        if not found:
            raise NotFound(self.missing)
        return found[0]


class PoolQueueViewSet(QueueRows):
    projection = WORK_QUEUE
    ordering = ("priority", "created", "pk")

    def queryset(self) -> QuerySet[Any]:
        return WorkQueue.objects.filter(work_pool=pool_named(self.kwargs["pool_name"]).pk)

    def named(self, pool_name: str, name: str) -> WorkQueue:
        queue = WorkQueue.objects.filter(work_pool__name=pool_name, name=name).first()
        if queue is None:
            raise self.missing_queue(pool_name, name)
        return queue

    def missing_queue(self, pool_name: str, name: str) -> NotFound:
        return NotFound(f"Work pool queue '{pool_name}/{name}' not found.")

    def filter(self, request: Request, pool_name: str) -> HttpResponse:  # type: ignore[override]
        return super().filter(request)

    @documented(body=WorkQueueCreate, status=201, summary="Create a queue in a pool")
    @writes
    def create(self, request: Request, pool_name: str) -> HttpResponse:
        body = self.body(WorkQueueCreate)
        pool = pool_named(pool_name)
        queue = create_queue(pool, body.name, priority=body.priority, **columns_of(body))
        if queue is None:
            raise Conflict("A work queue with this name already exists in work pool {work_pool_name!r}.")
        return self.answer(self.row(queue.pk), 201)

    def retrieve_by_name(self, request: Request, pool_name: str, name: str) -> HttpResponse:
        found: list[WireRow] = self.rows(WorkQueue.objects.filter(work_pool__name=pool_name, name=name))
        if not found:
            raise self.missing_queue(pool_name, name)
        return self.answer(found[0])

    @documented(body=WorkQueueUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pool_name: str, name: str) -> HttpResponse:
        body = self.body(WorkQueueUpdate)
        queue = self.named(pool_name, name)
        update_queue(queue, changes_of(body), make_room=True)
        return self.nothing()

    @writes
    def destroy(self, request: Request, pool_name: str, name: str) -> HttpResponse:
        delete_queue(self.named(pool_name, name), close_ranks=True)
        return self.nothing()

"""`/work_queues`: queues of every pool by id, as agents and older clients know them.

Contract: work_pools_queues_workers.md, sections 6 and 8.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from flowruns.models import FlowRun
from orchestrator.core.errors import Conflict, Missing, NotFound
from orchestrator.core.projection import WireRow
from orchestrator.core.viewsets import bounded_limit, documented, writes
from workqueues import dispatch, occupancy, statuses
from workqueues.api.queues import QueueRows, changes_of, columns_of
from workqueues.models import WorkPool, WorkQueue
from workqueues.models.pools import AGENT_POOL, DEFAULT_QUEUE
from workqueues.projections import AGENT_QUEUE
from workqueues.registration import agent_pool, create_queue, delete_queue, update_queue
from workqueues.schemas import AgentRunsAsked, SlotsPage, WorkQueueCreate, WorkQueueUpdate

NAME_TAKEN = "A work queue with this name already exists."


def queue_or_engine_error(pk: UUID) -> WorkQueue:
    queue = WorkQueue.objects.filter(pk=pk).first()
    if queue is None:
        raise Missing(f"Work queue with id {pk} not found.")
    return queue


class WorkQueueViewSet(QueueRows):
    projection = AGENT_QUEUE
    missing = "work queue not found"
    ordering = ("name", "pk")

    def rows(self, rows: QuerySet[Any]) -> list[WireRow]:
        found = super().rows(rows)
        filtered = {str(row["id"]): row for row in found if row["filter"] is not None and row["active_slots"] is not None}
        for queue in WorkQueue.objects.filter(pk__in=list(filtered)):
            filtered[str(queue.pk)]["active_slots"] = dispatch.agent_slots(queue).count()
        return found

    def queue(self, pk: UUID) -> WorkQueue:
        queue = WorkQueue.objects.filter(pk=pk).first()
        if queue is None:
            raise NotFound(f"Work Queue {pk} not found")
        return queue

    @documented(body=WorkQueueCreate, status=201, summary="Create a queue in the pool of agents")
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(WorkQueueCreate)
        pool, made = agent_pool()
        if made and body.name == DEFAULT_QUEUE:
            return self.answer(self.row(pool.default_queue_id), 201)
        queue = create_queue(pool, body.name, priority=body.priority, **columns_of(body))
        if queue is None:
            raise Conflict(NAME_TAKEN)
        return self.answer(self.row(queue.pk), 201)

    def retrieve_by_name(self, request: Request, name: str) -> HttpResponse:
        named = WorkQueue.objects.filter(name=name).order_by("created", "pk")
        if WorkPool.objects.filter(name=AGENT_POOL).exists():
            named = named.filter(work_pool__name=AGENT_POOL)
        found = self.rows(named[:1])
        if not found:
            raise NotFound(self.missing)
        return self.answer(found[0])

    @documented(body=WorkQueueUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(WorkQueueUpdate)
        update_queue(self.queue(pk), changes_of(body), make_room=False)
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        queue = WorkQueue.objects.filter(pk=pk).first()
        if queue is None:
            raise NotFound(self.missing)
        delete_queue(queue, close_ranks=False)
        return self.nothing()

    @documented(body=AgentRunsAsked, summary="The runs that an agent of the queue may take now")
    def get_runs(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(AgentRunsAsked)
        limit = bounded_limit(body.limit)
        queue = queue_or_engine_error(pk)
        answer = self.answer(dispatch.agent_runs(queue, body.scheduled_before, limit))
        if request.META.get("HTTP_X_PREFECT_UI", "").lower() not in {"true", "1"}:
            dispatch.polled([(queue.pk, queue.status, queue.last_polled)])
        return answer

    @documented(body=SlotsPage, summary="Who uses the queue's slots")
    def concurrency_status(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(SlotsPage)
        limit = bounded_limit(body.limit)
        queue = WorkQueue.objects.filter(pk=pk).first()
        if queue is None:
            raise NotFound("Work queue not found.")
        return self.answer(occupancy.of_queue(queue, body.page, limit))

    def status(self, request: Request, pk: UUID) -> HttpResponse:
        queue = queue_or_engine_error(pk)
        late = FlowRun.objects.scheduled().filter(work_queue=queue, state_name="Late").count()
        asked = statuses.recently(queue.last_polled, settings.QUEUE_POLLED_TIMEOUT, timezone.now())
        return self.answer(
            {
                "healthy": not late and asked,
                "late_runs_count": late,
                "last_polled": queue.last_polled,
                "health_check_policy": {
                    "maximum_late_runs": 0,
                    "maximum_seconds_since_last_polled": int(settings.QUEUE_POLLED_TIMEOUT.total_seconds()),
                },
            }
        )

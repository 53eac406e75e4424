"""`/deployments`. Contract: flows_deployments.md, sections 3, 4 and 7."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from deployments import scheduling
from deployments.api.bodies import many_of
from deployments.models import Deployment
from deployments.projections import DEPLOYMENT
from deployments.readiness import mark_ready
from deployments.registration import delete_deployment, delete_deployments, pause, register, resume, update
from deployments.running import create_run, create_runs, runnable
from deployments.schemas import (
    DeploymentCreate,
    DeploymentFlowRunCreate,
    DeploymentUpdate,
    NewRuns,
    RunnerPoll,
    ScheduleRange,
)
from flowruns.models import FlowRun
from flowruns.projections import FLOW_RUN
from flowruns.schemas import bulk_body
from orchestrator.core.errors import BadRequest, NotFound
from orchestrator.core.filters import select
from orchestrator.core.provenance import created_by, updated_by
from orchestrator.core.viewsets import FilterActions, bounded_limit, documented, writes
from workqueues.models import WorkQueue
from workqueues.projections import WORK_QUEUE

MAX_NEW_RUNS = 100
NEW_RUNS = {"type": "object", "properties": {"results": {"type": "array", "items": {"type": "object"}}}}


class DeploymentViewSet(FilterActions):
    projection = DEPLOYMENT
    missing = "Deployment not found"
    keys = ("deployments", "flows", "flow_runs", "task_runs", "work_pools", "work_pool_queues")
    sorts = {
        "CREATED_DESC": ("-created", "pk"),
        "UPDATED_DESC": ("-updated", "pk"),
        "NAME_ASC": ("name", "pk"),
        "NAME_DESC": ("-name", "pk"),
    }
    default_sort = "NAME_ASC"

    @documented(body=DeploymentCreate, status=201, summary="Create or overwrite the deployment of this flow and name")
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(DeploymentCreate)
        key, made = register(body, created_by=created_by(request.headers), updated_by=updated_by(request.headers))
        return self.answer(self.row(key), 201 if made else 200)

    def retrieve_by_name(self, request: Request, flow_name: str, name: str) -> HttpResponse:
        if (row := DEPLOYMENT.named(flow_name, name)) is None:
            raise NotFound(self.missing)
        return self.answer(row)

    @documented(body=DeploymentUpdate, status=204, summary="Change what the body names")
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        update(pk, self.body(DeploymentUpdate), updated_by=updated_by(request.headers))
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        if not delete_deployment(pk):
            raise NotFound(self.missing)
        return self.nothing()

    @documented(body=lambda: bulk_body("DeploymentBulkDelete", "deployments"))
    @writes
    def bulk_delete(self, request: Request) -> HttpResponse:
        body: Any = self.body(bulk_body("DeploymentBulkDelete", "deployments"))
        chosen = select(Deployment, "deployments", body.deployments).order_by("name", "pk")
        return self.answer({"deleted": delete_deployments(list(chosen.values_list("pk", flat=True)[: body.limit]))})

    @writes
    def pause(self, request: Request, pk: UUID) -> HttpResponse:
        pause(pk)
        return self.answer(None)

    @writes
    def resume(self, request: Request, pk: UUID) -> HttpResponse:
        resume(pk)
        return self.answer(None)

    @documented(body=ScheduleRange, summary="Plan runs now, also of a paused deployment")
    def schedule(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(ScheduleRange)
        min_time = None if body.min_time is None else timedelta(seconds=body.min_time)
        scheduling.schedule_range(pk, body.start_time, body.end_time, min_time, body.min_runs, body.max_runs)
        return self.answer(None)

    @documented(body=RunnerPoll, summary="Runs of these deployments that are due, earliest first")
    def scheduled_flow_runs(self, request: Request) -> HttpResponse:
        body = self.body(RunnerPoll)
        limit = bounded_limit(body.limit)
        due = FlowRun.objects.scheduled().due(body.scheduled_before).of_deployments(body.deployment_ids)
        ordered = due.order_by("next_scheduled_start_time", "pk")[:limit]
        runs = FLOW_RUN.many(ordered) if limit and body.deployment_ids else []
        mark_ready(body.deployment_ids, timezone.now())
        return self.answer(runs)

    @documented(body=DeploymentFlowRunCreate, answer=FLOW_RUN, status=201, summary="Create a run of the deployment")
    @writes
    def create_flow_run(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(DeploymentFlowRunCreate)
        key, made = create_run(runnable(pk), body, created_by=created_by(request.headers))
        return self.answer(FLOW_RUN.one(key), 201 if made else 200)

    @documented(
        body=list[DeploymentFlowRunCreate], answer=NEW_RUNS, summary="Create up to 100 runs; each succeeds or fails by itself"
    )
    @writes
    def create_flow_runs(self, request: Request, pk: UUID) -> HttpResponse:
        sent = self.raw_body()
        if isinstance(sent, list) and len(sent) > MAX_NEW_RUNS:
            raise BadRequest(f"Cannot create more than {MAX_NEW_RUNS} flow runs at once.")
        bodies = many_of(NewRuns, sent)
        results = create_runs(runnable(pk), bodies, created_by=created_by(request.headers))
        return self.answer({"results": results})

    def work_queue_check(self, request: Request, pk: UUID) -> HttpResponse:
        """The queues whose legacy filter lets the deployment in; a queue without one lets everything in."""
        found = Deployment.objects.filter(pk=pk).values_list("tags", flat=True).first()
        if found is None:
            raise NotFound(self.missing)
        filters = WorkQueue.objects.filter(filter__isnull=False).values_list("pk", "filter")
        closed = [key for key, of_queue in filters if not admits(of_queue, pk, found)]
        return self.answer(WORK_QUEUE.many(WorkQueue.objects.exclude(pk__in=closed).order_by("name", "pk")))


def admits(of_queue: Any, key: UUID, tags: list[str]) -> bool:
    """Whether the legacy filter of a queue lets in a deployment of this id and these tags."""
    if not isinstance(of_queue, dict):
        return True
    keys = of_queue.get("deployment_ids") or []
    return set(of_queue.get("tags") or []) <= set(tags) and (not keys or str(key) in keys)

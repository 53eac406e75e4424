"""`/task_runs`. Contract: runs_states_orchestration.md, section 3."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from flowruns.api.flow_runs import HISTORY_FIELDS, history_answer, outcome
from flowruns.deliveries import SEEN_WITHIN
from flowruns.models import FlowRun, TaskRun, TaskWorker
from flowruns.orchestration import engine
from flowruns.projections import TASK_RUN
from flowruns.registration import create_task_run
from flowruns.removal import delete_task_runs
from flowruns.schemas import SetState, TaskRunCreate, TaskRunUpdate, TaskWorkerPage
from orchestrator.core.errors import NotFound
from orchestrator.core.identifiers import random_name
from orchestrator.core.viewsets import FilterActions, WireViewSet, documented, writes


class TaskRunViewSet(FilterActions):
    projection = TASK_RUN
    missing = "Task not found"
    keys: ClassVar[tuple[str, ...]] = ("task_runs", "flow_runs", "flows", "deployments")
    sorts = {
        "ID_DESC": ("-pk",),
        "EXPECTED_START_TIME_ASC": ("expected_start_time", "pk"),
        "EXPECTED_START_TIME_DESC": ("-expected_start_time", "pk"),
        "NAME_ASC": ("name", "pk"),
        "NAME_DESC": ("-name", "pk"),
        "NEXT_SCHEDULED_START_TIME_ASC": ("next_scheduled_start_time", "pk"),
        "END_TIME_DESC": ("-end_time", "pk"),
    }
    default_sort = "ID_DESC"

    @documented(body=TaskRunCreate, status=201, summary="Create a task run, or get the one of these keys")
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(TaskRunCreate)
        values = body.model_dump(exclude={"state", "empirical_policy", "labels"}, exclude_none=True)
        values |= {"empirical_policy": body.empirical_policy.of_task_run(), "labels": self._labels(body)}
        key, made = create_task_run(state=body.state.proposed() if body.state else None, values=values)
        return self.answer(self.row(key), 201 if made else 200)

    def _labels(self, body: TaskRunCreate) -> dict[str, Any]:
        if body.flow_run_id is None:
            return dict(body.labels or {})
        inherited = FlowRun.objects.filter(pk=body.flow_run_id).values_list("labels", flat=True).first() or {}
        return inherited | {"prefect.flow-run.id": str(body.flow_run_id)} | (body.labels or {})

    @documented(body=TaskRunUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(TaskRunUpdate)
        run = TaskRun.objects.select_for_update().only("name").filter(pk=pk).first()
        if run is None:
            raise NotFound("Task run not found")
        if "name" in body.model_fields_set:
            run.name = body.name or random_name()
            run.save(update_fields=["name"])
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        if not delete_task_runs(TaskRun.objects.filter(pk=pk)):
            raise NotFound(self.missing)
        return self.nothing()

    @documented(body=SetState, status=201, summary="Propose a state")
    def set_state(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(SetState)
        return self.answer(*outcome(engine.propose_task(pk, body.state.proposed(), force=body.force)))

    def history(self, request: Request) -> HttpResponse:
        body: Any = self.body(self.shape("history"))
        return self.answer(history_answer(self, body))

    @classmethod
    def _fields(cls, kind: str) -> dict[str, Any]:
        return super()._fields(kind) | (HISTORY_FIELDS if kind == "history" else {})

    REDUCED = [
        "id",
        "created",
        "updated",
        "name",
        "flow_run_id",
        "task_key",
        "state_id",
        "state",
        "task_version",
        "task_inputs",
        "empirical_policy",
        "tags",
        "start_time",
        "end_time",
        "total_run_time",
        "estimated_run_time",
        "estimated_start_time_delta",
    ]

    def page_of(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: row[key] for key in self.REDUCED} for row in rows]


class TaskWorkerViewSet(WireViewSet):
    """`/task_workers`: who is connected to run background tasks."""

    reads = frozenset({"filter"})

    @documented(body=TaskWorkerPage, summary="Connected task workers, of some tasks or all")
    def filter(self, request: Request) -> HttpResponse:
        asked = self.body(TaskWorkerPage).task_worker_filter
        workers = TaskWorker.objects.filter(seen__gt=timezone.now() - SEEN_WITHIN)
        if asked and asked.task_keys:
            workers = workers.filter(task_keys__has_any=asked.task_keys)
        found = workers.order_by("identifier").values_list("identifier", "task_keys", "seen")
        return self.answer([{"identifier": name, "task_keys": keys, "timestamp": seen} for name, keys, seen in found])

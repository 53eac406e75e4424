"""`/ui/…`: questions that the web UI asks of flows and runs. Contract: ui_and_misc_endpoints.md, section 3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, QuerySet
from django.http import HttpResponse
from django.utils import timezone
from pydantic import Field
from rest_framework.request import Request

from flowruns.api.flow_runs import FlowRunViewSet
from flowruns.api.task_runs import TaskRunViewSet
from flowruns.models import Flow, FlowRun, TaskRun
from flowruns.projections import FLOW_RUN, TASK_RUN
from flowruns.schemas import FlowIds, FlowRunIds
from flowruns.states import TERMINAL, StateType
from orchestrator.core.criteria import optional
from orchestrator.core.errors import NotFound, Unprocessable
from orchestrator.core.viewsets import WireViewSet, documented

MAX_POINTS = 1_000
BARS = 20
MINUTE = timedelta(minutes=1)
NAMED_TASK_RUN = {"flow_run_name": {"type": ["string", "null"]}}
NEXT_RUN = ("id", "flow_id", "name", "state_name", "state_type", "next_scheduled_start_time")


class FlowHelpers(WireViewSet):
    reads = frozenset({"count_deployments", "next_runs"})

    @documented(body=FlowIds, summary="How many deployments each flow has")
    def count_deployments(self, request: Request) -> HttpResponse:
        keys = self.body(FlowIds).flow_ids
        counted = Flow.objects.filter(pk__in=keys).annotate(number=Count("deployments")).values_list("pk", "number")
        return self.answer(dict.fromkeys(keys, 0) | dict(counted))

    @documented(body=FlowIds, summary="The next scheduled run of each flow")
    def next_runs(self, request: Request) -> HttpResponse:
        keys = self.body(FlowIds).flow_ids
        first = FlowRun.objects.scheduled().filter(flow=OuterRef("pk")).order_by("next_scheduled_start_time", "pk")
        chosen = Flow.objects.filter(pk__in=keys).annotate(run=first.values("pk")[:1]).values_list("run", flat=True)
        runs = FlowRun.objects.filter(pk__in=[key for key in chosen if key]).values(*NEXT_RUN)
        return self.answer(dict.fromkeys(keys) | {run["flow_id"]: run for run in runs})


class FlowRunHelpers(FlowRunViewSet):
    reads = FlowRunViewSet.reads | {"count_task_runs"}
    keys = ("flow_runs", "flows", "task_runs", "deployments", "work_pools")
    default_sort: ClassVar[str] = "EXPECTED_START_TIME_DESC"

    @classmethod
    def _fields(cls, kind: str) -> dict[str, Any]:
        if kind != "history":
            return super()._fields(kind)
        points = Annotated[int, Field(ge=0, le=MAX_POINTS)]
        return super()._fields("filter") | {"limit": (points, MAX_POINTS)}

    def history(self, request: Request) -> HttpResponse:
        """Runs as points: when, how long, how late."""
        body: Any = self.body(self.shape("history"))
        start = body.offset or 0
        rows = self.ordered(self.matching(body), body)[start : start + body.limit]
        return self.answer([point(row) for row in (FLOW_RUN.many(rows) if body.limit else [])])

    @documented(body=FlowRunIds, summary="How many task runs each run has, but for those that stand for subflows")
    def count_task_runs(self, request: Request) -> HttpResponse:
        keys = self.body(FlowRunIds).flow_run_ids
        subflow = Exists(FlowRun.objects.filter(parent_task_run=OuterRef("pk")))
        counted = TaskRun.objects.filter(~subflow, flow_run__in=keys).order_by().values_list("flow_run").annotate(Count("pk"))
        return self.answer(dict.fromkeys(keys, 0) | dict(counted))


def point(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "state_type": row["state_type"],
        "timestamp": row["start_time"] or row["expected_start_time"],
        "duration": row["estimated_run_time"],
        "lateness": row["estimated_start_time_delta"],
    }


class TaskRunHelpers(TaskRunViewSet):
    reads = TaskRunViewSet.reads | {"dashboard_counts"}
    keys = ("task_runs", "flow_runs", "flows", "deployments")

    @classmethod
    def _fields(cls, kind: str) -> dict[str, Any]:
        if kind != "dashboard":
            return super()._fields(kind)
        return super()._fields("count") | {key: optional(cls.filter_of(key).shape()) for key in ("work_pools", "work_queues")}

    def wire(self, body: Any) -> dict[str, Any]:
        more = {"work_pools": "work_pools", "work_pool_queues": "work_queues"}
        return super().wire(body) | {key: found for key, name in more.items() if (found := getattr(body, name, None)) is not None}

    def count(self, request: Request) -> HttpResponse:
        """How many task runs are in each type of state."""
        matching = self.matching(self.body(self.shape("count")))
        counted = dict(matching.order_by().values_list("state_type").annotate(Count("pk")))
        return self.answer({state.value: counted.get(state.value, 0) for state in StateType})

    @documented(body=lambda: TaskRunHelpers.shape("dashboard"))
    def dashboard_counts(self, request: Request) -> HttpResponse:
        """Twenty bars of task runs that ended, by their start."""
        body: Any = self.body(self.shape("dashboard"))
        window = body.task_runs.start_time if body.task_runs else None
        if window is None or window.after_ is None:
            raise Unprocessable("task_runs.start_time.after_ is required")
        start = floored(window.after_)
        end = floored(window.before_ or timezone.now()) + MINUTE
        body.task_runs.state = None
        ended = self.matching(body).filter(state_type__in=sorted(TERMINAL), start_time__gte=start, start_time__lt=end)
        return self.answer(bars(ended, start, end))

    @documented(answer=NAMED_TASK_RUN)
    def retrieve(self, request: Request, pk: UUID) -> HttpResponse:
        row = TASK_RUN.one(pk)
        if row is None:
            raise NotFound(self.missing)
        name = FlowRun.objects.filter(task_runs=pk).values_list("name", flat=True).first()
        return self.answer(row | {"flow_run_name": name})


def floored(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def bars(ended: QuerySet[TaskRun], start: datetime, end: datetime) -> list[dict[str, int]]:
    counted = [{"completed": 0, "failed": 0} for _ in range(BARS)]
    width = max((end - start) / BARS, timedelta(microseconds=1))
    for began, type_, number in ended.order_by().values_list("start_time", "state_type").annotate(Count("pk")):
        bar = counted[min(int((began - start) / width), BARS - 1)]
        bar["failed" if type_ in {StateType.FAILED, StateType.CRASHED} else "completed"] += number
    return counted

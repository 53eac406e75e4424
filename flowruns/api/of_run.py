"""What belongs to one flow run: its inputs, its graph, its log to download. Contract: runs_states_orchestration.md, section 2."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Value
from django.db.models.functions import StrIndex
from django.http import HttpResponse, StreamingHttpResponse
from pydantic import TypeAdapter, ValidationError
from rest_framework.request import Request

from flowruns import graph, inputs
from flowruns.api.flow_runs import outcome
from flowruns.models import FlowRun, FlowRunInput, Log, TaskRun
from flowruns.projections import INPUT, TASK_RUN
from flowruns.schemas import InputCreate, InputPage, Resume
from orchestrator.core.errors import Conflict, InvalidRequest, Missing, NotFound
from orchestrator.core.viewsets import RowViewSet, WireViewSet, documented, writes
from orchestrator.core.wire import UtcMoment

LINES_AT_ONCE = 1_000
MOMENT: TypeAdapter[datetime] = TypeAdapter(UtcMoment)
NO_RUN = "Flow run not found"


class InputViewSet(RowViewSet):
    reads = frozenset({"filter"})
    projection = INPUT
    missing = "Flow run input not found"

    @documented(body=InputCreate, status=201, summary="Hand a value to the run")
    @writes
    def create(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(InputCreate)
        if not FlowRun.objects.filter(pk=pk).exists():
            raise NotFound(NO_RUN)
        try:
            with transaction.atomic():
                FlowRunInput.objects.create(flow_run_id=pk, key=body.key, value=body.value, sender=body.sender)
        except IntegrityError:
            raise Conflict("A flow run input with this key already exists.") from None
        return self.answer(None, 201)

    @documented(body=InputPage, summary="The run's inputs whose key begins so, oldest first")
    def filter(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(InputPage)
        rows = FlowRunInput.objects.filter(flow_run=pk).exclude(key__in=body.exclude_keys)
        if body.prefix:
            rows = rows.annotate(place=StrIndex("key", Value(body.prefix))).filter(place=1)
        return self.answer(self.rows(rows.order_by("created", "pk")[: body.limit]) if body.limit else [])

    def read(self, request: Request, pk: UUID, key: str) -> HttpResponse:
        value = FlowRunInput.objects.filter(flow_run=pk, key=key).values_list("value", flat=True).first()
        if value is None:
            raise NotFound(self.missing)
        return HttpResponse(value, content_type="text/plain; charset=utf-8")

    @writes
    def destroy(self, request: Request, pk: UUID, key: str) -> HttpResponse:
        deleted, _ = FlowRunInput.objects.filter(flow_run=pk, key=key).delete()
        if not deleted:
            raise NotFound(self.missing)
        return self.nothing()


class OneRunViewSet(WireViewSet):
    @documented(body=Resume, status=201, summary="Let a paused run go on, with the input it asked for")
    @writes
    def resume(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(Resume)
        return self.answer(*outcome(inputs.resume(pk, body.run_input, request.META.get("HTTP_USER_AGENT", ""))))

    def graph(self, request: Request, pk: UUID) -> HttpResponse:
        """The task runs of a run with what they depend on, newest first."""
        if not FlowRun.objects.filter(pk=pk).exists():
            raise Missing(f"Flow run with id {pk} not found")
        rows = TaskRun.objects.filter(flow_run=pk).order_by("-pk")
        shown = {row["id"]: row for row in TASK_RUN.many(rows)}
        return self.answer([graph_v1(task, shown[str(task.pk)]) for task in rows.select_related("state")])

    def graph_v2(self, request: Request, pk: UUID) -> HttpResponse:
        return self.answer(graph.graph(pk, moment_asked(request, "since")))

    def log_file(self, request: Request, pk: UUID) -> StreamingHttpResponse:
        """All lines of a run, oldest first, as CSV."""
        name = FlowRun.objects.filter(pk=pk).values_list("name", flat=True).first()
        if name is None:
            raise NotFound(NO_RUN)
        response = StreamingHttpResponse(csv_lines(pk), content_type="text/csv; charset=utf-8")
        file = quote(f"{name}-logs.csv", safe="")
        response["Content-Disposition"] = f"attachment; filename=\"flow-run-logs.csv\"; filename*=UTF-8''{file}"
        return response


def moment_asked(request: Request, name: str) -> datetime | None:
    text = request._request.GET.get(name)
    if text is None:
        return None
    try:
        return MOMENT.validate_python(text)
    except ValidationError as error:
        raise InvalidRequest.of(error, None, "query") from None


def graph_v1(task: TaskRun, row: dict[str, Any]) -> dict[str, Any]:
    details = task.state.details if task.state else {}
    return {
        "id": row["id"],
        "name": row["name"],
        "upstream_dependencies": graph.dependencies(task),
        "state": row["state"],
        "expected_start_time": row["expected_start_time"],
        "start_time": row["start_time"],
        "end_time": row["end_time"],
        "total_run_time": row["total_run_time"],
        "estimated_run_time": row["estimated_run_time"],
        "untrackable_result": bool(details.get("untrackable_result")),
    }


class Line:
    """What csv writes to: a line, given back instead of kept."""

    def write(self, text: str) -> str:
        return text


def csv_lines(run_id: UUID) -> Iterator[str]:
    writer = csv.writer(Line())
    yield writer.writerow(["timestamp", "level", "flow_run_id", "task_run_id", "message"])
    rows = Log.objects.filter(flow_run_id=run_id).order_by("timestamp", "pk")
    columns = ("timestamp", "level", "flow_run_id", "task_run_id", "message")
    for row in rows.values_list(*columns).iterator(chunk_size=LINES_AT_ONCE):
        yield writer.writerow([str(row[0]), *("" if cell is None else cell for cell in row[1:])])

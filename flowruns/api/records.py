"""`/logs`. Contract: logs_artifacts_misc.md, section 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from pydantic import TypeAdapter, ValidationError
from rest_framework.request import Request

from flowruns.models import Log
from flowruns.projections import LOG
from flowruns.schemas import LogCreate
from orchestrator.core.databases import insert_rows, written
from orchestrator.core.errors import InvalidRequest
from orchestrator.core.identifiers import time_ordered_texts
from orchestrator.core.viewsets import FilterActions, documented, parse_body, writes

LINES = TypeAdapter(list[LogCreate])
COLUMNS = {
    "id": "uuid",
    "name": "text",
    "level": "smallint",
    "message": "text",
    "timestamp": "timestamptz",
    "flow_run_id": "uuid",
    "task_run_id": "uuid",
    "created": "timestamptz",
    "updated": "timestamptz",
}


class LogViewSet(FilterActions):
    projection = LOG
    keys = ("logs",)
    sorts = {"TIMESTAMP_ASC": ("timestamp", "pk"), "TIMESTAMP_DESC": ("-timestamp", "-pk")}
    default_sort = "TIMESTAMP_ASC"

    @documented(body=list[LogCreate], status=201, answer={"type": "null"}, summary="Add lines")
    @writes
    def create(self, request: Request) -> HttpResponse:
        sent: Any = parse_body(request._request.body, strip_nul=True)
        try:
            lines = LINES.validate_python(sent)
        except ValidationError as error:
            raise InvalidRequest.of(error, sent) from None
        add(lines)
        return self.answer(None, 201)


def add(lines: Sequence[LogCreate]) -> None:
    """Store the lines; one statement."""
    now = written(timezone.now())
    rows = [
        [
            key,
            line["name"],
            line["level"],
            line["message"],
            written(line["timestamp"]),
            text(line.get("flow_run_id")),
            text(line.get("task_run_id")),
            now,
            now,
        ]
        for key, line in zip(time_ordered_texts(len(lines)), lines, strict=True)
    ]
    if rows:
        insert_rows(Log._meta.db_table, COLUMNS, rows)


def text(key: Any) -> str | None:
    return None if key is None else str(key)

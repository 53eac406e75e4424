"""`/logs`. Contract: logs_artifacts_misc.md, section 1."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from pydantic import TypeAdapter, ValidationError
from rest_framework.request import Request

from flowruns.models import Log
from flowruns.projections import LOG
from flowruns.schemas import LogCreate
from orchestrator.core.errors import InvalidRequest
from orchestrator.core.viewsets import FilterActions, documented, parse_body, writes

LINES = TypeAdapter(list[LogCreate])
BATCH = 500


class LogViewSet(FilterActions):
    projection = LOG
    keys = ("logs",)
    sorts = {"TIMESTAMP_ASC": ("timestamp", "pk"), "TIMESTAMP_DESC": ("-timestamp", "-pk")}
    default_sort = "TIMESTAMP_ASC"

    @documented(body=list[LogCreate], status=201, summary="Add lines")
    @writes
    def create(self, request: Request) -> HttpResponse:
        sent: Any = parse_body(request._request.body, strip_nul=True)
        try:
            lines = LINES.validate_python(sent)
        except ValidationError as error:
            raise InvalidRequest.of(error, sent) from None
        Log.objects.bulk_create([Log(**line.model_dump()) for line in lines], batch_size=BATCH)
        return self.answer(None, 201)

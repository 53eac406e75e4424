"""`/flow_run_states` and `/task_run_states`. Contract: runs_states_orchestration.md, sections 2 and 3."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from flowruns.projections import FLOW_RUN_STATE, TASK_RUN_STATE
from orchestrator.core.errors import InvalidRequest
from orchestrator.core.viewsets import RowViewSet


class StateViewSet(RowViewSet):
    missing = "Flow run state not found"
    parameter: ClassVar[str]

    def list(self, request: Request) -> HttpResponse:
        """The states of one run, oldest first."""
        states = self.projection.model._default_manager.filter(run=self.asked(request))
        return self.answer(self.rows(states.order_by("timestamp", "pk")))

    def asked(self, request: Request) -> UUID:
        text = request._request.GET.get(self.parameter)
        if text is None:
            raise InvalidRequest.single("missing", ("query", self.parameter), "Field required")
        try:
            return UUID(text)
        except ValueError:
            message = "Input should be a valid UUID"
            raise InvalidRequest.single("uuid_parsing", ("query", self.parameter), message, text[:200]) from None


class FlowRunStateViewSet(StateViewSet):
    projection = FLOW_RUN_STATE
    parameter = "flow_run_id"


class TaskRunStateViewSet(StateViewSet):
    projection = TASK_RUN_STATE
    parameter = "task_run_id"

"""`/flows`. Contract: flows_deployments.md, section 1."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from flowruns.models import Flow
from flowruns.projections import FLOW
from flowruns.registration import create_flow
from flowruns.removal import delete_flows
from flowruns.schemas import FlowCreate, FlowUpdate, bulk_body
from orchestrator.core.errors import NotFound
from orchestrator.core.filters import select
from orchestrator.core.viewsets import FilterActions, documented, writes

NAMED_SORTS = {
    "CREATED_DESC": ("-created", "pk"),
    "UPDATED_DESC": ("-updated", "pk"),
    "NAME_ASC": ("name", "pk"),
    "NAME_DESC": ("-name", "pk"),
}


class FlowViewSet(FilterActions):
    projection = FLOW
    missing = "Flow not found"
    keys = ("flows", "flow_runs", "task_runs", "deployments", "work_pools")
    sorts = NAMED_SORTS
    default_sort = "NAME_ASC"

    @documented(body=FlowCreate, status=201, summary="Create a flow, or get the one of this name")
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(FlowCreate)
        key, made = create_flow(body.name, body.tags, body.labels or {})
        return self.answer(self.row(key), 201 if made else 200)

    def retrieve_by_name(self, request: Request, name: str) -> HttpResponse:
        key = Flow.objects.filter(name=name).values_list("id", flat=True).first()
        return self.answer(self.row(key))

    @documented(body=FlowUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        given = self.body(FlowUpdate).given()
        changes: dict[str, Any] = given | {"updated": timezone.now()} if given else {}
        found = Flow.objects.filter(pk=pk)
        if not (found.update(**changes) if changes else found.exists()):
            raise NotFound(self.missing)
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        if not delete_flows([pk]):
            raise NotFound(self.missing)
        return self.nothing()

    @documented(body=lambda: bulk_body("FlowBulkDelete", "flows"))
    @writes
    def bulk_delete(self, request: Request) -> HttpResponse:
        body: Any = self.body(bulk_body("FlowBulkDelete", "flows"))
        keys = list(select(Flow, "flows", body.flows).order_by("name").values_list("pk", flat=True)[: body.limit])
        delete_flows(keys)
        return self.answer({"deleted": keys})

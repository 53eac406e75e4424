"""`/automations` and `/templates`. Contract: events_automations.md, section 7; ui_and_misc_endpoints.md, section 5."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpResponse
from pydantic import TypeAdapter, ValidationError
from rest_framework.request import Request

from deployments.hydration import HydrationError, check_template
from orchestrator.automations import registration
from orchestrator.automations.models import Automation
from orchestrator.automations.schemas import AutomationCore, AutomationCreate, AutomationSwitch
from orchestrator.core.errors import InvalidRequest, Missing, reply
from orchestrator.core.projection import Projection, WireRow
from orchestrator.core.routes import filter_routes, route
from orchestrator.core.viewsets import FilterActions, WireViewSet, documented, writes

KEYS = (
    "id",
    "created",
    "updated",
    "name",
    "description",
    "enabled",
    "tags",
    "trigger",
    "actions",
    "actions_on_trigger",
    "actions_on_resolve",
)
AUTOMATION = Projection(Automation, {name: name for name in KEYS})
MISSING = "Automation not found"
TEXT: TypeAdapter[str] = TypeAdapter(str)


class AutomationViewSet(FilterActions):
    projection = AUTOMATION
    keys = ("automations",)
    sorts = {
        "CREATED_DESC": ("-created", "pk"),
        "UPDATED_DESC": ("-updated", "pk"),
        "NAME_ASC": ("name", "pk"),
        "NAME_DESC": ("-name", "pk"),
    }
    default_sort = "NAME_ASC"

    def row(self, key: Any) -> WireRow:
        if (row := self.projection.one(key)) is None:
            raise Missing(MISSING)
        return row

    @documented(body=AutomationCreate, status=201)
    @writes
    def create(self, request: Request) -> HttpResponse:
        return self.answer(self.row(registration.create(self.body(AutomationCreate)).pk), 201)

    @documented(body=AutomationCore, status=204, summary="Write what the body names; what was counted is forgotten")
    @writes
    def update(self, request: Request, pk: UUID) -> HttpResponse:
        registration.update(self.locked(pk), self.body(AutomationCore))
        return self.nothing()

    @documented(body=AutomationSwitch, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(AutomationSwitch)
        automation = self.locked(pk)
        try:
            registration.switch(automation, body.enabled)
        except ValidationError as error:
            raise InvalidRequest.of(error, self.raw_body()) from None
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        registration.delete(self.locked(pk))
        return self.nothing()

    def locked(self, pk: UUID) -> Automation:
        automation = Automation.objects.select_for_update().filter(pk=pk).first()
        if automation is None:
            raise Missing(MISSING)
        return automation

    def related_to(self, request: Request, resource: str) -> HttpResponse:
        """Automations that the resource owns, or whose action runs the deployment that it is."""
        asked = Q(owner_resource=resource)
        kind, _, key = resource.rpartition(".")
        if kind == "prefect.deployment":
            asked |= Q(pk__in=registration.running(key))
        return self.answer(self.rows(Automation.objects.filter(asked).order_by("name", "pk")))

    @writes
    def delete_owned(self, request: Request, resource: str) -> HttpResponse:
        Automation.objects.filter(owner_resource=resource).delete()
        return self.answer(None, 202)


class TemplateViewSet(WireViewSet):
    reads = frozenset({"validate"})

    def validate(self, request: Request) -> HttpResponse:
        """Whether a text, given as JSON, is a template that automations take."""
        sent = self.raw_body()
        try:
            text = TEXT.validate_python("" if sent is None and not request._request.body else sent)
        except ValidationError as error:
            raise InvalidRequest.of(error, sent) from None
        try:
            check_template(text)
        except HydrationError as error:
            return reply(422, {"error": {"line": error.line, "message": str(error), "source": text}})
        return self.nothing()


urlpatterns = [
    route("", AutomationViewSet, post="create"),
    *filter_routes(AutomationViewSet, "filter", "count"),
    route("templates/validate", TemplateViewSet, post="validate"),
    route("related-to/<str:resource>", AutomationViewSet, get="related_to"),
    route("owned-by/<str:resource>", AutomationViewSet, delete="delete_owned"),
    route("<id:pk>", AutomationViewSet, get="retrieve", put="update", patch="partial_update", delete="destroy"),
]
template_urls = [route("validate", TemplateViewSet, post="validate")]

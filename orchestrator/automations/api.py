"""The automation routes that every deployment and its inspection call. Contract: events_automations.md, section 7."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.automations.models import Automation
from orchestrator.core.projection import Projection
from orchestrator.core.routes import route
from orchestrator.core.viewsets import RowViewSet, writes

AUTOMATION = Projection(
    Automation,
    {
        name: name
        for name in (
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
    },
)


class AutomationViewSet(RowViewSet):
    projection = AUTOMATION
    missing = "Automation not found"

    def related_to(self, request: Request, resource: str) -> HttpResponse:
        """Automations that the resource owns."""
        return self.answer(self.rows(Automation.objects.filter(owner_resource=resource).order_by("name", "pk")))

    @writes
    def delete_owned(self, request: Request, resource: str) -> HttpResponse:
        Automation.objects.filter(owner_resource=resource).delete()
        return self.answer(None, 202)


urlpatterns = [
    route("related-to/<str:resource>", AutomationViewSet, get="related_to"),
    route("owned-by/<str:resource>", AutomationViewSet, delete="delete_owned"),
]

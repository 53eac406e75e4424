"""Events for operators."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from orchestrator.core.modeladmin import ReadOnlyAdmin, as_json
from orchestrator.events.models import Event


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("occurred", "event", "resource_id")
    search_fields = ("event__startswith", "resource_id__startswith")
    search_help_text = "An event's name, or the id of its resource, from its beginning"
    ordering = ("-occurred",)
    fields = ("occurred", "received", "event", "id", "follows", "labels", "related_resources", "shown_payload")

    @display(description="Resource")
    def labels(self, event: Event) -> str:
        return as_json(event.resource)

    @display(description="Related")
    def related_resources(self, event: Event) -> str:
        return as_json(event.related)

    @display(description="Payload")
    def shown_payload(self, event: Event) -> str:
        return as_json(event.payload)

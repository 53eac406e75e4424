"""Automations for operators."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from orchestrator.automations import registration
from orchestrator.automations.models import Automation, PendingAction
from orchestrator.core.modeladmin import ReadOnlyAdmin, as_json, link


@admin.register(Automation)
class AutomationAdmin(ReadOnlyAdmin):
    list_display = ("name", "enabled", "owner_resource", "updated")
    list_filter = ("enabled",)
    search_fields = ("name",)
    actions = ("enable", "disable")
    fields = ("name", "description", "enabled", "tags", "owner_resource", "shown_trigger", "shown_actions", "created", "updated")

    @display(description="Trigger")
    def shown_trigger(self, automation: Automation) -> str:
        return as_json(automation.trigger)

    @display(description="Actions")
    def shown_actions(self, automation: Automation) -> str:
        return as_json([*automation.actions, *automation.actions_on_trigger])

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("automations.change_automation")

    @admin.action(description="Enable", permissions=["operate"])
    def enable(self, request: HttpRequest, rows: QuerySet[Automation]) -> None:
        self.do_each(request, rows, lambda row: registration.switch(row, True), "automations enabled")

    @admin.action(description="Disable", permissions=["operate"])
    def disable(self, request: HttpRequest, rows: QuerySet[Automation]) -> None:
        self.do_each(request, rows, lambda row: registration.switch(row, False), "automations disabled")


@admin.register(PendingAction)
class PendingActionAdmin(ReadOnlyAdmin):
    """What automations still have to do."""

    list_display = ("kind", "automation_link", "due", "attempts")
    list_select_related = ("automation",)
    ordering = ("due",)

    @display(description="Action")
    def kind(self, row: PendingAction) -> str:
        return str(row)

    @display(description="Automation")
    def automation_link(self, row: PendingAction) -> str:
        return link(row.automation)

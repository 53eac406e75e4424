"""Automations for operators."""

from __future__ import annotations

from django.contrib import admin

from orchestrator.automations.models import Automation
from orchestrator.core.modeladmin import ReadOnlyAdmin


@admin.register(Automation)
class AutomationAdmin(ReadOnlyAdmin):
    list_display = ("name", "enabled", "owner_resource", "updated")
    list_filter = ("enabled",)
    search_fields = ("name",)

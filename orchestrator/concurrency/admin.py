"""Limits and leases for operators."""

from __future__ import annotations

from django.contrib import admin

from orchestrator.concurrency.models import ConcurrencyLimit, Lease
from orchestrator.core.modeladmin import ReadOnlyAdmin, RowAdmin


@admin.register(ConcurrencyLimit)
class ConcurrencyLimitAdmin(RowAdmin):
    list_display = ("name", "limit", "active_slots", "active", "slot_decay_per_second", "updated")
    list_filter = ("active",)
    search_fields = ("name",)
    readonly_fields = ("denied_slots", "avg_slot_occupancy_seconds", "active_slots")


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("id", "holder_type", "holder_id", "slots", "expires_at")
    list_filter = ("holder_type",)

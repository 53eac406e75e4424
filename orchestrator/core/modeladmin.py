"""What the operators' pages share: read-only history, JSON one can read, verbs that say how many rows they touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from django.contrib import messages
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline

from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import InvalidRequest, WireError


def as_json(value: Any) -> SafeString | str:
    """A JSON value as an indented block, escaped."""
    if value in (None, {}, []):
        return "–"
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre style="white-space:pre-wrap;overflow-wrap:anywhere">{}</pre>', text)


def link(row: Model | None, text: str = "") -> SafeString | str:
    """A link to the page of `row`."""
    if row is None:
        return "–"
    try:
        address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    except NoReverseMatch:
        return str(row)
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text or str(row))


def link_to_list(model: type[Model], text: str, **query: Any) -> SafeString:
    """A link to the list of `model`, filtered."""
    options = model._meta
    address = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}?{}">{}</a>', address, asked, text)


class RowAdmin(ModelAdmin):
    """The base of every page: no count of a whole table, nothing editable that the server owns."""

    show_full_result_count = False
    list_per_page = 50
    list_filter_submit = False
    compressed_fields = True
    ordering = ("-created",)

    def do_each(self, request: HttpRequest, rows: Iterable[Any], verb: Callable[[Any], Any], done: str) -> None:
        """Apply `verb` to each row, through the same door as the API; say how many and which were refused."""
        count = 0
        for row in rows:
            try:
                in_one_transaction(partial(verb, row))
                count += 1
            except (WireError, InvalidRequest) as error:
                self.message_user(request, f"{row}: {error}", messages.WARNING)
        self.message_user(request, f"{count} {done}.", messages.SUCCESS if count else messages.INFO)


class ReadOnlyAdmin(RowAdmin):
    """History: to be read, never written here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True
    tab = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

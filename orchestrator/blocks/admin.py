"""Blocks and variables for operators. The data of a block may hold secrets and is not shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from orchestrator.blocks.models import BlockDocument, BlockSchema, BlockType, Variable
from orchestrator.core.modeladmin import ReadOnlyAdmin, RowAdmin


@admin.register(Variable)
class VariableAdmin(RowAdmin):
    list_display = ("name", "tags", "updated")
    search_fields = ("name",)
    fields = ("name", "value", "tags", "id", "created", "updated")
    readonly_fields = ("id", "created", "updated")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", *self.readonly_fields) if obj else self.readonly_fields


@admin.register(BlockType)
class BlockTypeAdmin(ReadOnlyAdmin):
    list_display = ("name", "slug", "is_protected")
    search_fields = ("name", "slug")


@admin.register(BlockSchema)
class BlockSchemaAdmin(ReadOnlyAdmin):
    list_display = ("checksum", "block_type", "version")
    list_select_related = ("block_type",)


@admin.register(BlockDocument)
class BlockDocumentAdmin(ReadOnlyAdmin):
    list_display = ("name", "block_type", "is_anonymous", "updated")
    list_select_related = ("block_type",)
    search_fields = ("name",)

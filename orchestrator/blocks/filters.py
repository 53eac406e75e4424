"""Filters of blocks and variables (contract: filters_sorts.md, sections 2.7 and 2.10)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q

from orchestrator.core.criteria import Criterion, TagsCriterion, combine
from orchestrator.core.filters import RowFilter, Through


class VariableFilter(RowFilter):
    wire_key = "variables"
    label = "blocks.Variable"
    id = Criterion(UUID, "any_", path="pk")
    name = Criterion(str, "any_ like_", path="name")
    tags = TagsCriterion("all_ is_null_")


class Capabilities(TagsCriterion):
    """All of these; there is no operator between one criterion."""

    def __init__(self) -> None:
        super().__init__("all_", path="capabilities")
        self.joinable = False


class BlockSchemaFilter(RowFilter):
    wire_key = "block_schemas"
    label = "blocks.BlockSchema"
    block_type_id = Criterion(UUID, "any_", path="block_type_id")
    block_capabilities = Capabilities()
    id = Criterion(UUID, "any_", path="pk")
    version = Criterion(str, "any_", path="version")


class BlockTypeFilter(RowFilter):
    wire_key = "block_types"
    label = "blocks.BlockType"
    joinable = False
    name = Criterion(str, "like_", path="name")
    slug = Criterion(str, "any_", path="slug")
    through = {"block_schemas": Through("blocks.BlockSchema", block_type_id="pk")}


class BlockDocumentFilter(RowFilter):
    """Anonymous blocks are left out unless the filter says something of them, be it null."""

    wire_key = "block_documents"
    label = "blocks.BlockDocument"
    id = Criterion(UUID, "any_", path="pk")
    is_anonymous = Criterion(bool, "eq_", path="is_anonymous")
    block_type_id = Criterion(UUID, "any_", path="block_type_id")
    name = Criterion(str, "any_ like_", path="name")
    through = {
        "block_types": Through("blocks.BlockType", id="block_type_id"),
        "block_schemas": Through("blocks.BlockSchema", id="block_schema_id"),
    }

    @classmethod
    def q(cls, body: Any) -> Q:
        asked = super().q(body)
        if "is_anonymous" in body.model_fields_set:
            return asked
        return combine([asked, Q(is_anonymous=False)] if asked else [Q(is_anonymous=False)], body.operator)

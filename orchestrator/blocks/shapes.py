"""Types and schemas of blocks as the wire shows them inside of documents (contract: blocks_variables.md)."""

from __future__ import annotations

from typing import Any

from orchestrator.blocks.models import BlockSchema, BlockType

TYPE_KEYS = (
    "id",
    "created",
    "updated",
    "name",
    "slug",
    "logo_url",
    "documentation_url",
    "description",
    "code_example",
    "is_protected",
)
SCHEMA_KEYS = ("id", "created", "updated", "checksum", "fields", "block_type_id", "capabilities", "version")


def type_shape(block_type: BlockType) -> dict[str, Any]:
    return {key: getattr(block_type, key) for key in TYPE_KEYS}


def schema_shape(schema: BlockSchema) -> dict[str, Any]:
    return {key: getattr(schema, key) for key in SCHEMA_KEYS} | {"block_type": type_shape(schema.block_type)}

"""Block types that are there from the start and cannot be deleted (contract: blocks_variables.md, section 3).

Clients bring the schemas of their own versions along when they save a block; these are for everybody else.
"""

from __future__ import annotations

from typing import Any

from orchestrator.blocks.checksums import checksum
from orchestrator.blocks.models import BlockSchema, BlockType

SYSTEM: list[dict[str, Any]] = [
    {
        "name": "Secret",
        "slug": "secret",
        "description": "A value that is kept encrypted and shown to nobody who does not ask for it.",
        "capabilities": [],
        "required": ["value"],
        "secret_fields": ["value"],
        "properties": {
            "value": {
                "title": "Value",
                "description": "What is kept secret: text, or any other JSON value.",
                "anyOf": [{"type": "string", "format": "password", "writeOnly": True}, {}],
            }
        },
    },
    {
        "name": "Local File System",
        "slug": "local-file-system",
        "description": "Files in a folder of the machine that the code runs on.",
        "capabilities": ["get-directory", "put-directory", "read-path", "write-path"],
        "required": [],
        "secret_fields": [],
        "properties": {
            "basepath": {
                "title": "Basepath",
                "description": "The folder that paths are relative to.",
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
            }
        },
    },
    {
        "name": "Webhook",
        "slug": "webhook",
        "description": "An address of the web that is called with a payload.",
        "capabilities": [],
        "required": ["url"],
        "secret_fields": ["url", "headers.*"],
        "properties": {
            "method": {
                "title": "Method",
                "description": "The method of the request.",
                "type": "string",
                "enum": ["GET", "POST", "PUT", "PATCH", "DELETE"],
                "default": "POST",
            },
            "url": {"title": "URL", "description": "The address.", "type": "string", "format": "password", "writeOnly": True},
            "headers": {"title": "Headers", "description": "Headers of the request.", "type": "object"},
            "allow_private_urls": {
                "title": "Allow private URLs",
                "description": "Whether the address may be one of a private network.",
                "type": "boolean",
                "default": True,
            },
            "verify": {
                "title": "Verify",
                "description": "Whether the certificate of the address is verified.",
                "type": "boolean",
                "default": True,
            },
        },
    },
]


def install() -> None:
    """Make the types and schemas that are missing. Safe to repeat, and in several processes at once."""
    for given in SYSTEM:
        columns = {"name": given["name"], "description": given["description"], "is_protected": True}
        block_type, _ = BlockType.objects.get_or_create(slug=given["slug"], defaults=columns)
        fields = fields_of(given)
        defaults = {"block_type": block_type, "fields": fields, "capabilities": given["capabilities"]}
        BlockSchema.objects.get_or_create(checksum=checksum(fields), version="non-versioned", defaults=defaults)


def fields_of(given: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "title": given["name"].replace(" ", ""),
        "type": "object",
        "description": given["description"],
        "properties": given["properties"],
        "block_type_slug": given["slug"],
        "block_schema_references": {},
        "secret_fields": given["secret_fields"],
    }
    return fields | ({"required": given["required"]} if given["required"] else {})

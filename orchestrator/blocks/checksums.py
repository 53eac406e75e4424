"""The identity of a block schema, computed as clients compute it. Contract: blocks_variables.md, section 4. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

DEFINITIONS = "#/definitions/"


def checksum(fields: dict[str, Any]) -> str:
    """`sha256:` and 64 hexadecimal digits, over everything but names of secrets and the schemas of other blocks."""
    content = without_secret_fields(fields)
    if definitions := content.pop("definitions", None):
        whole = {**content, "definitions": definitions}
        if kept := own_definitions(whole, definitions, set()):
            content["definitions"] = kept
    text = json.dumps([[content], {}], sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def without_secret_fields(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_secret_fields(item) if isinstance(item, dict) else item
        for key, item in value.items()
        if key != "secret_fields"
    }


def own_definitions(value: Any, definitions: dict[str, Any], seen: set[str]) -> dict[str, Any]:
    """The definitions that `value` refers to, directly or not, and that are no blocks."""
    kept: dict[str, Any] = {}
    for key in references(value):
        definition = definitions.get(key)
        if key in seen or not definition or "block_type_slug" in definition:
            continue
        seen.add(key)
        kept[key] = definition
        kept |= own_definitions(definition, definitions, seen)
    return kept


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item.replace(DEFINITIONS, "")
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)

"""Job variables: what a pool's base job template asks for. Contract: work_pools_queues_workers.md, section 3."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.blocks.models import BlockDocument
from orchestrator.core.json_schema import (
    InvalidSchema,
    SchemaViolation,
    check_schema,
    fixed_up,
    validate,
)

Template = Mapping[str, Any]
Values = Mapping[str, Any]
Resolve = Callable[[str], dict[str, Any] | None]

PLACEHOLDER = re.compile(r"\{\{\s*([\w.\-\[\]$]+)\s*\}\}")
BOTH_KEYS = "The `base_job_template` must contain both a `job_configuration` key and a `variables` key."


class BlockNotFound(LookupError):
    """A default names a block that does not exist."""


def document_data(key: str) -> dict[str, Any] | None:
    """The data of the block document with this id; None when there is none."""
    try:
        document = BlockDocument.objects.filter(pk=key).first()
    except (ValueError, TypeError):
        return None
    return document.data if document else None


def validate_template(template: Template) -> None:
    """Raise ValueError unless the template is empty, or has both its parts and declares what it uses."""
    if not template:
        return
    if not template.get("job_configuration") or not template.get("variables"):
        raise ValueError(BOTH_KEYS)
    configuration, variables = template["job_configuration"], template["variables"]
    if not isinstance(configuration, dict) or not isinstance(variables, dict):
        raise ValueError(BOTH_KEYS)
    properties = variables.get("properties")
    declared = set(properties) if isinstance(properties, dict) else set()
    used = {name for value in configuration.values() for name in PLACEHOLDER.findall(json.dumps(value))}
    if undeclared := sorted(used - declared):
        raise ValueError(
            "The variables specified in the job configuration template must be present as properties in the "
            f"variables schema. Your job configuration uses the following undeclared variable(s): {', '.join(undeclared)}."
        )


def schema_of(template: Template) -> dict[str, Any] | None:
    """The schema of a template's variables; None where it has none and anything goes."""
    variables = template.get("variables") if template else None
    return variables if isinstance(variables, dict) and variables else None


def check_defaults(template: Template, resolve: Resolve = document_data) -> None:
    """Raise InvalidSchema, SchemaViolation or BlockNotFound unless every default fits its own property."""
    schema = schema_of(template)
    if schema is None:
        return
    check_schema(schema)
    for name, value in defaults_of(schema, resolve).items():
        validate({name: value}, nullable(schema), ignore_required=True)


def defaults_of(schema: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
    """The defaults of the properties, with a reference to a block replaced by the block's data."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {
        name: block_data(prop["default"], resolve)
        for name, prop in properties.items()
        if isinstance(prop, dict) and "default" in prop
    }


def block_data(default: Any, resolve: Resolve) -> Any:
    reference = default.get("$ref") if isinstance(default, dict) else None
    key = reference.get("block_document_id") if isinstance(reference, dict) else None
    if key is None:
        return default
    data = resolve(key)
    if data is None:
        raise BlockNotFound(str(key))
    return data


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in which every optional property may be null, those with a default too."""
    return fixed_up(schema, even_with_default=True)


def validate_for_deployment(template: Template, variables: Values, resolve: Resolve = document_data) -> None:
    """Whether a deployment's job variables fit; nothing is required of them yet."""
    schema = schema_of(template)
    if schema is None or not variables:
        return
    check_schema(schema)
    valid, _ = valid_defaults(schema, resolve)
    validate({**valid, **variables}, nullable(schema), ignore_required=True)


def validate_for_run(
    template: Template, deployment_variables: Values, run_variables: Values, resolve: Resolve = document_data
) -> None:
    """Whether a run's job variables, over its deployment's and the template's defaults, are complete and fit."""
    schema = schema_of(template)
    if schema is None:
        return
    check_schema(schema)
    valid, all_valid = valid_defaults(schema, resolve)
    values = {**valid, **deployment_variables, **run_variables}
    validate(values, nullable(schema), ignore_required=not all_valid)


def valid_defaults(schema: dict[str, Any], resolve: Resolve) -> tuple[dict[str, Any], bool]:
    """The defaults that fit their own property, and whether all do."""
    defaults = defaults_of(schema, resolve)
    lenient = nullable(schema)
    valid = {name: value for name, value in defaults.items() if fits({name: value}, lenient)}
    return valid, len(valid) == len(defaults)


def fits(values: Values, schema: dict[str, Any]) -> bool:
    try:
        validate(values, schema, ignore_required=True)
    except (SchemaViolation, InvalidSchema):
        return False
    return True

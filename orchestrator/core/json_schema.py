"""JSON Schema, draft 2020-12, as the wire uses it. Contract: flows_deployments.md, section 5.2. Pure.

Nothing is ever fetched: a reference that the schema itself does not resolve is a fault of the values' owner. The library is
imported on first use, because most processes never validate.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from functools import cache, lru_cache
from typing import Any

MAX_PATTERN = 500
PATTERN_SECONDS = 0.2
# A repeated group that itself repeats something: matching it may take exponential time.
NESTED_QUANTIFIER = re.compile(r"\([^()]*[+*{][^()]*\)\s*[+*{]")
CIRCULAR = "Invalid schema: Unable to validate schema with circular references."


class SchemaViolation(ValueError):
    """The values do not fit the schema; the text says where and why, `message` only why."""

    def __init__(self, text: str, message: str = "") -> None:
        super().__init__(text)
        self.message = message or text


class InvalidSchema(ValueError):
    """The schema itself is not one."""


class CircularSchemaReference(ValueError):
    """The schema refers to itself without end."""

    def __init__(self) -> None:
        super().__init__(CIRCULAR)


def validate(values: Any, schema: Any, *, ignore_required: bool = False) -> None:
    """Raise SchemaViolation, InvalidSchema or CircularSchemaReference, or return."""
    from jsonschema.exceptions import SchemaError, best_match
    from referencing.exceptions import Unresolvable

    try:
        validator = prepared(json.dumps(schema, sort_keys=True), ignore_required)
        error = best_match(validator.iter_errors(values))
    except RecursionError:
        raise CircularSchemaReference from None
    except SchemaError as fault:
        raise InvalidSchema(fault.message) from None
    except Unresolvable as fault:
        raise SchemaViolation(f"Validation failed. Failure reason: Unresolvable reference {fault.ref!r}") from None
    except (TypeError, AttributeError, KeyError, ValueError) as fault:
        if isinstance(fault, InvalidSchema | SchemaViolation):
            raise
        raise InvalidSchema(str(fault)) from None
    if error is not None:
        place = error.json_path.removeprefix("$").removeprefix(".")
        where = f" for field '{place}'." if place else "."
        raise SchemaViolation(f"Validation failed{where} Failure reason: {error.message}", error.message)


def errors_of(values: Any, schema: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Every fault with its path; a missing property's is its own. Raises InvalidSchema or CircularSchemaReference."""
    from referencing.exceptions import Unresolvable

    try:
        validator = prepared(json.dumps(schema, sort_keys=True), False)
        return [fault for error in validator.iter_errors(values) for fault in faults_of(error)]
    except RecursionError:
        raise CircularSchemaReference from None
    except Unresolvable as fault:
        raise InvalidSchema(f"Unresolvable reference {fault.ref!r}") from None
    except (TypeError, AttributeError, KeyError) as fault:
        raise InvalidSchema(str(fault)) from None


def faults_of(error: Any) -> list[tuple[tuple[str | int, ...], str]]:
    path = tuple(error.absolute_path)
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [name for name in error.validator_value if name not in error.instance]
        return [((*path, name), error.message) for name in missing if repr(name) in error.message]
    return [(path, error.message)]


def check_schema(schema: Any) -> None:
    """Raise InvalidSchema unless `schema` is a schema."""
    try:
        _check_text(json.dumps(schema, sort_keys=True))
    except (RecursionError, TypeError) as fault:
        raise InvalidSchema(str(fault)) from None


@lru_cache(maxsize=256)
def _check_text(schema_text: str) -> None:
    """Check a schema given as JSON text; once for each that is one."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    schema = json.loads(schema_text)
    refuse_slow_patterns(schema)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as fault:
        raise InvalidSchema(fault.message) from None
    except (RecursionError, TypeError, re.error) as fault:
        raise InvalidSchema(str(fault)) from None


@lru_cache(maxsize=256)
def prepared(schema_text: str, ignore_required: bool) -> Any:
    """The validator of a schema given as JSON text; made once for each."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    schema = json.loads(schema_text)
    check_schema(schema)
    if isinstance(schema, dict):
        schema = fixed_up(schema)
    if ignore_required:
        schema = without_required(schema)
    return time_boxed(Draft202012Validator)(schema, registry=Registry())


@cache
def time_boxed(validator: Any) -> Any:
    """The validator, whose patterns give up after a moment: no look at a pattern tells how long it may take."""
    from jsonschema import ValidationError
    from jsonschema.validators import extend

    def pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Any:
        if validator.is_type(instance, "string") and not found(pattern, instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    def pattern_properties(validator: Any, patterns: dict[str, Any], instance: Any, schema: Any) -> Any:
        if validator.is_type(instance, "object"):
            for pattern, subschema in patterns.items():
                for name, value in instance.items():
                    if found(pattern, name):
                        yield from validator.descend(value, subschema, path=name, schema_path=pattern)

    def additional_properties(validator: Any, rule: Any, instance: Any, schema: Any) -> Any:
        patterns = schema.get("patternProperties")
        if patterns and validator.is_type(instance, "object"):
            # The ones that match a pattern are declared as properties, so that the library has no pattern to look at.
            matched = {name: True for name in instance if any(found(pattern, name) for pattern in patterns)}
            schema = {"properties": matched | schema.get("properties", {})}
        yield from plain_additional_properties(validator, rule, instance, schema)

    plain_additional_properties = validator.VALIDATORS["additionalProperties"]
    boxed = {"pattern": pattern, "patternProperties": pattern_properties, "additionalProperties": additional_properties}
    return extend(validator, boxed)


def found(pattern: str, text: str) -> bool:
    """Whether the pattern matches somewhere in the text. Raises SchemaViolation when that takes too long."""
    import regex

    try:
        return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        raise SchemaViolation(f"Validation failed. Failure reason: the pattern {pattern[:80]!r} takes too long") from None


def refuse_slow_patterns(schema: Any) -> None:
    if isinstance(schema, dict):
        if "unevaluatedProperties" in schema and "patternProperties" in schema:
            raise InvalidSchema("unevaluatedProperties beside patternProperties is not supported.")
        for key, value in schema.items():
            if key == "pattern" and isinstance(value, str):
                check_pattern(value)
            if key == "patternProperties" and isinstance(value, dict):
                for pattern in value:
                    check_pattern(pattern)
            refuse_slow_patterns(value)
    elif isinstance(schema, list):
        for item in schema:
            refuse_slow_patterns(item)


def check_pattern(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN or NESTED_QUANTIFIER.search(pattern):
        raise InvalidSchema(f"The pattern {pattern[:80]!r} may take too long to match.")
    import regex

    try:
        regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as fault:
        raise InvalidSchema(f"{pattern[:80]!r} is not a regular expression: {fault}") from None


def fixed_up(schema: dict[str, Any], *, even_with_default: bool = False) -> dict[str, Any]:
    """A copy with the shapes of older clients put right: optional values may be null, tuples, block references."""
    schema = deepcopy(schema)
    nullable_properties(schema, even_with_default)
    for definition in definitions_of(schema):
        nullable_properties(definition, even_with_default)
        if "block_type_slug" in definition:
            accept_block_reference(definition)
    tuple_items(schema)
    return schema


def definitions_of(schema: dict[str, Any]) -> list[dict[str, Any]]:
    definitions = schema.get("definitions")
    return [item for item in definitions.values() if isinstance(item, dict)] if isinstance(definitions, dict) else []


def nullable_properties(schema: dict[str, Any], even_with_default: bool) -> None:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    required = schema.get("required")
    for name, prop in properties.items():
        if not isinstance(prop, dict):
            continue
        optional = not isinstance(required, list) or name not in required
        free = even_with_default or "default" not in prop
        if optional and free and "type" in prop and prop["type"] != "null":
            prop["anyOf"] = [{"type": prop.pop("type")}, {"type": "null"}]
        nullable_properties(prop, even_with_default)


def tuple_items(schema: Any) -> None:
    if isinstance(schema, dict):
        if isinstance(schema.get("items"), list) and "prefixItems" not in schema:
            schema["prefixItems"] = schema.pop("items")
        for value in schema.values():
            tuple_items(value)
    elif isinstance(schema, list):
        for item in schema:
            tuple_items(item)


def accept_block_reference(definition: dict[str, Any]) -> None:
    original = dict(definition)
    definition.clear()
    by_map = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}
    reference = {
        "type": "object",
        "properties": {"$ref": {"oneOf": [{"type": "string", "format": "uuid"}, by_map]}},
        "required": ["$ref"],
    }
    definition["anyOf"] = [original, reference]


def without_required(schema: Any) -> Any:
    """A copy in which nothing is required, at any depth."""
    if isinstance(schema, dict):
        return {key: without_required(value) for key, value in schema.items() if key != "required"}
    if isinstance(schema, list):
        return [without_required(item) for item in schema]
    return schema

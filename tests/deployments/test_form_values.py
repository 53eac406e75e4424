"""Values of the UI's forms, checked against a schema."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.blocks.models import Variable
from tests.api import post

pytestmark = pytest.mark.django_db
SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "names": {"type": "array", "items": {"type": "string"}},
        "deep": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
    },
    "required": ["n"],
}


def check(values: dict[str, Any], schema: Any = SCHEMA) -> tuple[int, Any]:
    return post("/ui/schemas/validate", {"schema": schema, "values": values})


@pytest.mark.parametrize(
    ("values", "errors"),
    [
        ({"n": 1, "names": ["a"], "deep": {"x": 1.5}}, []),
        ({"n": "q"}, [{"property": "n", "errors": ["'q' is not of type 'integer'"]}]),
        ({}, [{"property": "n", "errors": ["'n' is a required property"]}]),
        (
            {"n": 1, "names": ["a", 5]},
            [{"property": "names", "errors": [{"index": 1, "errors": ["5 is not of type 'string'"]}]}],
        ),
        (
            {"n": 1, "deep": {}},
            [{"property": "deep", "errors": [{"property": "x", "errors": ["'x' is a required property"]}]}],
        ),
        ({"n": {"__prefect_kind": "json", "value": "5"}}, []),
        ({"n": {"__prefect_kind": "jinja", "template": "{{ x }}"}}, []),
    ],
)
def test_errors_are_where_the_form_has_its_fields(values: dict[str, Any], errors: list[Any]) -> None:
    assert check(values) == (200, {"errors": errors, "valid": not errors})


@pytest.mark.parametrize(
    ("placeholder", "words"),
    [
        ({"__prefect_kind": "json", "value": "{"}, "Invalid JSON"),
        ({"__prefect_kind": "jinja", "template": "{{ x"}, "Invalid jinja"),
        ({"__prefect_kind": "workspace_variable", "variable_name": "no"}, "Variable 'no' not found in workspace."),
        ({"__prefect_kind": "none"}, "Missing 'value' key"),
    ],
)
def test_a_placeholder_that_cannot_be_filled_hides_what_else_is_wrong_there(placeholder: Any, words: str) -> None:
    status, body = check({"n": placeholder})
    assert (status, body["valid"], len(body["errors"])) == (200, False, 1)
    assert body["errors"][0]["property"] == "n"
    assert words in body["errors"][0]["errors"][0]


def test_variables_count_with_their_values() -> None:
    Variable.objects.create(name="five", value=5)
    assert check({"n": {"__prefect_kind": "workspace_variable", "variable_name": "five"}})[1]["valid"]


CIRCLE = {"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/a"}}}


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, CIRCLE])
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any]) -> None:
    status, body = check({"n": 1}, schema)
    assert status == 422
    assert body["detail"].startswith("Invalid schema: ")

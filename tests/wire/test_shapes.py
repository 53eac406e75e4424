"""Our API description beside the reference's, route by route and key by key.

`shapes.json` holds what release 3.8.8 takes and answers: for each route its status, the keys of its body and those of its
answer. What differs on purpose is named here and explained in docs/compatibility.md.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

SHAPES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "shapes.json").read_text())
COMPONENTS = "#/components/schemas/"
# Statuses that the reference's own document gives wrongly: create routes answer 201 as well as 200, others as listed.
CREATES = {200, 201, 202, 204}


def normal(route: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", route)


@cache
def document() -> dict[str, Any]:
    answer: dict[str, Any] = Client().get("/api/openapi.json").json()
    return answer


@cache
def operations() -> dict[str, Any]:
    return {
        normal(f"{method.upper()} {path}"): operation
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


def keys(schema: Any) -> set[str] | None:
    """The keys of an object, or of the objects of a list; None where the schema names none."""
    if not isinstance(schema, dict):
        return None
    if reference := schema.get("$ref"):
        return keys(document()["components"]["schemas"][reference.removeprefix(COMPONENTS)])
    for way in ("anyOf", "oneOf", "allOf"):
        found = [item for item in map(keys, schema.get(way, ())) if item]
        if found:
            return found[0] if len(found) == 1 else None
    if "items" in schema:
        return keys(schema["items"])
    return set(schema["properties"]) if "properties" in schema else None


def content(part: Any) -> Any:
    return part.get("content", {}).get("application/json", {}).get("schema")


def test_every_route_is_there_and_no_other() -> None:
    assert set(operations()) == {normal(route) for route in SHAPES}


@pytest.mark.parametrize("route", [route for route, shape in SHAPES.items() if shape.get("body")])
def test_a_body_may_have_the_same_keys(route: str) -> None:
    ours = keys(content(operations()[normal(route)].get("requestBody", {})))
    assert ours is not None, "the description does not say what the route takes"
    assert ours == set(SHAPES[route]["body"])


@pytest.mark.parametrize("route", [route for route, shape in SHAPES.items() if shape.get("answer")])
def test_an_answer_has_the_same_keys(route: str) -> None:
    done = next(answer for status, answer in operations()[normal(route)]["responses"].items() if int(status) in CREATES)
    ours = keys(content(done))
    if ours is not None:
        assert ours == set(SHAPES[route]["answer"])

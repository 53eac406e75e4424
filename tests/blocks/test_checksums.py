"""A schema's checksum is the one that the real client computes for its class."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from orchestrator.blocks.checksums import checksum
from orchestrator.blocks.masking import masked, restored


@cache
def classes() -> list[Any]:
    from prefect.blocks.core import Block
    from prefect.blocks.system import Secret
    from prefect.blocks.webhook import Webhook
    from prefect.filesystems import LocalFileSystem
    from pydantic import BaseModel, SecretStr

    class Plain(BaseModel):
        größe: int = 3

    class Inner(Block):
        user: str
        password: SecretStr

    class Outer(Block):
        """Ein Block mit Umlauten: äöü."""

        login: Inner
        either: Inner | Plain
        nested: list[Plain] = []
        note: str | None = None

    return [Secret, Webhook, LocalFileSystem, Inner, Outer]


@pytest.mark.parametrize("place", range(5))
def test_it_equals_the_clients(place: int) -> None:
    block = classes()[place]
    assert checksum(block.model_json_schema()) == block._calculate_schema_checksum()


def test_what_is_secret_does_not_make_another_schema() -> None:
    fields = {"title": "X", "type": "object", "properties": {"a": {"type": "string"}}}
    assert checksum(fields) == checksum(fields | {"secret_fields": ["a"]})
    assert checksum(fields) != checksum(fields | {"title": "Y"})


DATA: dict[str, Any] = {"value": "s", "inner": {"token": "t", "user": "u"}, "headers": {"a": 1, "b": {"c": [1, 2]}}, "none": None}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["value"], {**DATA, "value": "********"}),
        (["inner.token"], {**DATA, "inner": {"token": "********", "user": "u"}}),
        (["headers.*"], {**DATA, "headers": {"a": "********", "b": {"c": "********"}}}),
        (["inner"], {**DATA, "inner": "********"}),
        (["none", "missing", "value.deeper"], DATA),
    ],
)
def test_secrets_are_hidden_where_the_schema_says(paths: list[str], expected: dict[str, Any]) -> None:
    assert masked(DATA, paths) == expected
    assert restored(expected, DATA, paths) == DATA


def test_stars_that_stand_for_nothing_stored_stay() -> None:
    assert restored({"value": "********"}, {}, ["value"]) == {"value": "********"}
    assert restored({"other": "********"}, {"other": "x"}, ["value"]) == {"other": "********"}

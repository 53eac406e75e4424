"""Bodies that are bare lists."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.core.errors import InvalidRequest

Item = TypeVar("Item")


def many_of(shape: TypeAdapter[list[Item]], sent: Any) -> list[Item]:
    """The items of a list body, or a 422 that says which does not fit."""
    try:
        return shape.validate_python(sent)
    except ValidationError as error:
        raise InvalidRequest.of(error, sent) from None

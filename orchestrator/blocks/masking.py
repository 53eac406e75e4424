"""Secrets in the data of blocks: hidden on the way out, kept on the way in. Contract: blocks_variables.md, section 5. Pure.

A schema names its secrets by dotted paths; `*` stands for everything below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

STARS = "********"

Data = dict[str, Any]


def masked(data: Data, paths: Iterable[str]) -> Data:
    """A copy of `data` in which every value at one of the paths is stars."""
    for path in paths:
        data = changed(data, path.split("."), lambda _: STARS)
    return data


def restored(data: Data, stored: Data, paths: Iterable[str]) -> Data:
    """A copy of `data` in which stars at one of the paths are what is stored there: the client sent back what it was shown."""
    for path in paths:
        data = kept(data, stored, path.split("."))
    return data


def changed(value: Any, path: list[str], change: Callable[[Any], Any]) -> Any:
    if not path or (path == ["*"] and not isinstance(value, dict)):
        return value if value is None else change(value)
    if not isinstance(value, dict):
        return value
    first, *rest = path
    if first == "*":
        return {key: changed(item, rest or (["*"] if isinstance(item, dict) else []), change) for key, item in value.items()}
    return {key: changed(item, rest, change) if key == first else item for key, item in value.items()}


def kept(value: Any, stored: Any, path: list[str]) -> Any:
    if value == STARS and stored is not None:
        return stored
    if not path or not isinstance(value, dict) or not isinstance(stored, dict):
        return value
    first, *rest = path
    below = (rest or ["*"]) if first == "*" else rest
    return {key: kept(item, stored.get(key), below) if first in {key, "*"} else item for key, item in value.items()}

"""JSON of request and response bodies: fast, exact, and bounded. Faults B03 to B12. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import orjson

MAX_DEPTH = 400
MAX_DIGITS = 4_300
OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
LONG_NUMBER = re.compile(rb"\d{19}")
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
LAYERS = 12
DEPTH_MARK = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.S)


class InvalidJson(ValueError):
    """The body is not JSON that the server takes: where, and why."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position
        self.reason = reason


def parse(body: bytes, *, strip_nul: bool = False) -> Any:
    """The value of `body`, with integers exact. Raises InvalidJson.

    Refused: what is not UTF-8 or not JSON, NaN and infinities, nesting deeper than 400, and NUL characters in text, which
    PostgreSQL cannot hold (`strip_nul` removes them instead).
    """
    if may_be_deep(body) and depth_of(body) > MAX_DEPTH:
        raise InvalidJson(0, f"Nesting deeper than {MAX_DEPTH} levels")
    try:
        # orjson turns an integer beyond 64 bits into a float; the slower parser keeps it as it is.
        value = exact(body) if LONG_NUMBER.search(body) else orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(error.pos, error.msg) from None
    return without_nul(value, strip_nul) if b"\\u0000" in body else value


def exact(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise InvalidJson(error.pos, error.msg) from None
    except (ValueError, RecursionError) as error:
        raise InvalidJson(0, str(error)) from None
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("A number is out of range")
    return value


def may_be_deep(body: bytes) -> bool:
    """Whether the brackets of the body may nest too deeply; those in strings count too, so that it is only a suspicion.

    Innermost pairs are taken out a few times: a list of many shallow objects is nothing then, and costs no look at each.
    """
    opened = body.count(b"[") + body.count(b"{")
    if opened <= MAX_DEPTH:
        return False
    marks = body.translate(None, NO_BRACKETS)
    for taken in range(1, LAYERS + 1):
        marks = marks.replace(b"{}", b"").replace(b"[]", b"")
        if marks.count(b"[") + marks.count(b"{") + 2 * taken <= MAX_DEPTH:
            return False
    return True


def depth_of(body: bytes) -> int:
    """How deep the brackets outside of strings nest."""
    deepest = depth = 0
    for match in DEPTH_MARK.finditer(body):
        mark = match[0]
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in b"]}":
            depth -= 1
    return deepest


def without_nul(value: Any, strip: bool) -> Any:
    """`value` with NUL characters taken out of its strings, or refused."""
    if isinstance(value, str):
        if "\0" in value and not strip:
            raise InvalidJson(0, "Text may not contain the NUL character")
        return value.replace("\0", "")
    if isinstance(value, list):
        return [without_nul(item, strip) for item in value]
    if isinstance(value, dict):
        return {without_nul(key, strip): without_nul(item, strip) for key, item in value.items()}
    return value


def dump(value: Any) -> bytes:
    """`value` as JSON, times in the wire's form (UTC with `Z`, six digits of fraction or none)."""
    try:
        return orjson.dumps(value, option=OPTIONS)
    except TypeError:
        # An integer beyond 64 bits, or nesting beyond what orjson writes.
        return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.isoformat().replace("+00:00", "Z")
    return json.loads(orjson.dumps(value, option=OPTIONS))

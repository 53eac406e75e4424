"""JSON of bodies: exact, bounded, and fast for many shallow things."""

from __future__ import annotations

import time

import orjson
import pytest

from orchestrator.core.json_body import MAX_DEPTH, InvalidJson, depth_of, dump, may_be_deep, parse


@pytest.mark.parametrize(
    ("body", "depth"),
    [(b"[]", 1), (b'{"a":[{"b":1},[[]]]}', 4), (rb'["[[[[", "\"[["]', 1), (b"1", 0), (b"[" * 500 + b"]" * 500, 500)],
)
def test_depth_is_counted_outside_of_strings(body: bytes, depth: int) -> None:
    assert depth_of(body) == depth


@pytest.mark.parametrize("depth", [300, MAX_DEPTH, MAX_DEPTH + 1, 100_000])
@pytest.mark.parametrize("opened", [b"[", b'{"a":'])
def test_what_nests_too_deeply_is_refused_and_nothing_else(depth: int, opened: bytes) -> None:
    closed = b"]" if opened == b"[" else b"}"
    body = opened * depth + b"1" + closed * depth
    padded = b'[{"x":[' + b",".join([b"[]"] * 1_000) + b"]}," + body + b"]"
    if depth > MAX_DEPTH:
        with pytest.raises(InvalidJson):
            parse(body)
    else:
        assert depth_of(padded) == depth + 1
        assert parse(body) == orjson.loads(body) if depth < 255 else parse(body)


def test_many_shallow_objects_are_no_suspicion() -> None:
    rows = [{"message": "[{ not a bracket", "tags": [{"a": []}]} for _ in range(5_000)]
    body = orjson.dumps([{key: value for key, value in row.items() if key != "message"} for row in rows])
    assert not may_be_deep(body)
    began = time.process_time()
    assert parse(orjson.dumps(rows)) == rows
    assert time.process_time() - began < 1


@pytest.mark.parametrize("text", ["5e400", "NaN", "-Infinity", "[1,]", '{"a":1', '"\\ud800"', "9" * 5_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidJson):
        parse(text.encode())


def test_integers_stay_exact() -> None:
    body = b'{"n":1180591620717411303424,"m":-9223372036854775809}'
    assert dump(parse(body)) == body

"""Where a queue stands in its pool, as a table."""

from __future__ import annotations

import pytest

from workqueues import priorities

LINE = [("default", 1), ("a", 2), ("b", 3), ("c", 4)]


def after(line: list[tuple[str, int]], changes: dict[str, int]) -> dict[str, int]:
    return {**dict(line), **changes}


@pytest.mark.parametrize(
    ("line", "key", "priority", "expected"),
    [
        (LINE, "d", 2, {"default": 1, "d": 2, "a": 3, "b": 4, "c": 5}),
        (LINE, "d", 9, {"default": 1, "a": 2, "b": 3, "c": 4, "d": 9}),
        ([("default", 1), ("a", 2), ("b", 7)], "d", 2, {"default": 1, "d": 2, "a": 3, "b": 7}),
        ([("default", 1), ("d", 2), ("a", 3), ("b", 4)], "a", 1, {"a": 1, "default": 2, "d": 3, "b": 4}),
        ([("a", 1), ("default", 2), ("d", 3)], "a", 10, {"default": 2, "d": 3, "a": 10}),
        (LINE, "b", 3, dict(LINE)),
        ([], "d", 1, {"d": 1}),
    ],
)
def test_a_queue_put_somewhere_moves_the_others_only_as_far_as_they_must(line, key, priority, expected):
    assert after(line, priorities.placed(line, key, priority)) == expected


@pytest.mark.parametrize(("taken", "free"), [([], 1), ([1, 2, 3], 4), ([2, 3], 1), ([1, 3], 2), ([1, 1, 2], 3)])
def test_a_queue_without_a_priority_fills_the_first_gap(taken, free):
    assert priorities.lowest_free(taken) == free


def test_deleting_a_queue_leaves_its_gap():
    assert priorities.removed(LINE, "a") == {}


def test_deleting_a_queue_tells_those_of_one_priority_apart():
    assert priorities.removed([("a", 1), ("b", 1), ("c", 2)], "a") == {}
    assert priorities.removed([("a", 1), ("b", 2), ("c", 2), ("d", 3)], "a") == {"c": 3, "d": 4}

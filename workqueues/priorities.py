"""Where a queue stands in its pool. Pure. Source: work_pools_queues_workers.md, section 4.

A line is a list of (id, priority) in serving order. Every function but `lowest_free` returns what has to change:
id → new priority.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import TypeVar

Key = TypeVar("Key")
Line = list[tuple[Key, int]]


def lowest_free(taken: Iterable[int]) -> int:
    """The smallest unused priority, from 1: it fills gaps."""
    used = set(taken)
    return next(priority for priority in count(1) if priority not in used)


def placed(line: Line[Key], key: Key, priority: int) -> dict[Key, int]:
    """`key` put at `priority`, before whoever stands there; the others move down only as far as they must."""
    others = [item for item in line if item[0] != key]
    at = next((i for i, (_, theirs) in enumerate(others) if theirs >= priority), None)
    if at is None:
        return _changes(line, [*others, (key, priority)])
    return _changes(line, spread([*others[:at], (key, priority), *others[at:]]))


def removed(line: Line[Key], key: Key) -> dict[Key, int]:
    """`key` taken out. Gaps stay; queues that shared a priority are told apart."""
    return _changes(line, spread([item for item in line if item[0] != key]))


def spread(line: Line[Key]) -> Line[Key]:
    """The line with strictly rising priorities; a queue already behind its predecessor keeps its own."""
    previous = 0
    result: Line[Key] = []
    for key, priority in line:
        previous = priority if priority > previous else previous + 1
        result.append((key, previous))
    return result


def _changes(before: Line[Key], after: Line[Key]) -> dict[Key, int]:
    old = dict(before)
    return {key: priority for key, priority in after if old.get(key) != priority}

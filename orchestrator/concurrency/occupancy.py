"""Arithmetic of limits: what is in use after decay, and how long a refused client should wait. Pure.

Contract: concurrency_limits.md, section 3. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from orchestrator.core.delays import around

SHORTEST_OCCUPANCY = 0.1
JITTER = 0.3


def decayed(count: int, rate: float, elapsed: float) -> int:
    """Slots still in use after `elapsed`, when `rate` of them free themselves each second."""
    return max(0, count - floor(rate * elapsed)) if rate else count


def still_denied(denied: int, rate: float, occupancy: float, elapsed: float) -> int:
    """Slots that clients were refused and still wait for: the limit's own rate takes them away, else use does."""
    return decayed(denied, rate or 1 / max(SHORTEST_OCCUPANCY, occupancy), elapsed)


def averaged(average: float, seconds: float, slots: int, limit: int) -> float:
    """The average occupancy with one more sample, over about twice as many samples as there are slots."""
    samples = 2 * max(limit, 1)
    return average + (max(seconds / slots, SHORTEST_OCCUPANCY) - average) / samples


@dataclass(frozen=True)
class Queue:
    """What stands before a client at one limit. `occupancy` is already cut to the longest wait, `longest`."""

    slots: int
    denied: int
    limit: int
    rate: float
    occupancy: float
    longest: float

    @property
    def blocking(self) -> float:
        """How many times the limit must be emptied first."""
        return (self.slots + self.denied) / (1 if self.rate else max(self.limit, 1))

    def mean_wait(self) -> float:
        return self.blocking / self.rate if self.rate else min(self.occupancy * self.blocking, self.longest)


def retry_after(queues: Sequence[Queue]) -> float:
    """Seconds to wait, drawn at random around what the fullest limit needs."""
    return around(max(queues, key=lambda queue: queue.blocking).mean_wait(), JITTER)

"""The arithmetic of limits, without a database."""

from __future__ import annotations

import pytest

from orchestrator.concurrency.occupancy import Queue, averaged, decayed, retry_after, still_denied


@pytest.mark.parametrize(("count", "rate", "seconds", "left"), [(5, 0, 1e6, 5), (5, 1, 2.9, 3), (5, 0.5, 3, 4), (5, 1, 60, 0)])
def test_slots_decay_by_whole_slots(count: int, rate: float, seconds: float, left: int) -> None:
    assert decayed(count, rate, seconds) == left


def test_who_was_refused_is_forgotten_as_slots_come_back() -> None:
    assert still_denied(10, 2.0, 99.0, 3.0) == 4
    assert still_denied(10, 0.0, 2.0, 7.0) == 7
    assert still_denied(10, 0.0, 0.0, 0.5) == 5


def test_the_average_moves_towards_a_sample_by_its_share_of_twice_the_limit() -> None:
    assert averaged(2.0, 6.0, slots=2, limit=5) == pytest.approx(2.1)
    assert averaged(2.0, 1e-9, slots=1, limit=0) == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("queue", "mean"),
    [
        (Queue(1, 0, 1, 0.0, 4.0, 30.0), 4.0),
        (Queue(1, 9, 5, 0.0, 4.0, 30.0), 8.0),
        (Queue(1, 99, 1, 0.0, 4.0, 30.0), 30.0),
        (Queue(2, 4, 1, 0.5, 4.0, 30.0), 12.0),
    ],
)
def test_a_client_waits_for_those_before_it(queue: Queue, mean: float) -> None:
    assert queue.mean_wait() == pytest.approx(mean)
    assert all(0.74 * mean <= retry_after([queue]) <= 1.31 * mean for _ in range(100))


def test_of_several_limits_the_fullest_decides() -> None:
    light, heavy = Queue(1, 0, 10, 0.0, 1.0, 30.0), Queue(1, 9, 1, 0.0, 2.0, 30.0)
    assert retry_after([light, heavy]) >= 0.74 * 20

"""Times and counts of a run follow from its states: no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from flowruns.orchestration.bookkeeping import derived
from flowruns.orchestration.delays import LONGEST_DELAY_SECONDS, around, retry_delay_seconds
from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def run(**columns: Any) -> SimpleNamespace:
    unset: dict[str, Any] = dict.fromkeys(("state_type", "state_timestamp", "start_time", "end_time", "expected_start_time"))
    return SimpleNamespace(**unset | {"total_run_seconds": 0.0, "run_count": 0, "empirical_policy": {}} | columns)


def enter(before: SimpleNamespace, type_: str, at: datetime = NOON, **details: Any) -> dict[str, Any]:
    return derived(before, ProposedState(StateType(type_), details=details), at)


def test_a_first_scheduled_state_says_when_the_run_is_expected() -> None:
    columns = enter(run(), "SCHEDULED", scheduled_time="2030-01-01T13:00:00Z")
    assert columns["expected_start_time"] == columns["next_scheduled_start_time"] == NOON + 60 * MINUTE


def test_a_first_state_of_another_type_is_expected_now() -> None:
    columns = enter(run(), "PENDING")
    assert (columns["expected_start_time"], columns["next_scheduled_start_time"]) == (NOON, None)


def test_the_expected_start_is_set_once() -> None:
    columns = enter(run(expected_start_time=NOON), "SCHEDULED", scheduled_time="2040-01-01T00:00:00Z")
    assert "expected_start_time" not in columns


@pytest.mark.parametrize("type_", ["RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED"])
def test_a_run_starts_with_its_first_running_or_terminal_state(type_: str) -> None:
    columns = enter(run(state_type="PENDING", expected_start_time=NOON - MINUTE), type_)
    assert (columns["start_time"], columns["start_delay_seconds"]) == (NOON, 60)


def test_a_run_that_starts_early_is_not_late() -> None:
    assert enter(run(expected_start_time=NOON + MINUTE), "RUNNING")["start_delay_seconds"] == 0


def test_a_run_starts_once() -> None:
    assert "start_time" not in enter(run(start_time=NOON - MINUTE, expected_start_time=NOON), "RUNNING")


def test_the_end_stays_from_one_terminal_state_to_the_next_and_goes_when_the_run_goes_on() -> None:
    ended = run(state_type="FAILED", start_time=NOON, end_time=NOON, expected_start_time=NOON)
    assert "end_time" not in enter(ended, "COMPLETED", NOON + MINUTE)
    assert enter(ended, "SCHEDULED", NOON + MINUTE)["end_time"] is None


def test_only_time_in_running_counts_as_run_time() -> None:
    running = run(state_type="RUNNING", state_timestamp=NOON, total_run_seconds=5.0, start_time=NOON)
    assert enter(running, "PAUSED", NOON + MINUTE)["total_run_seconds"] == 65
    assert "total_run_seconds" not in enter(run(state_type="PENDING", state_timestamp=NOON), "RUNNING", NOON + MINUTE)


def test_each_entry_into_running_is_a_try_except_a_resumed_one() -> None:
    assert enter(run(state_type="RUNNING", state_timestamp=NOON, run_count=1), "RUNNING")["run_count"] == 2
    resumed = enter(run(run_count=1, empirical_policy={"resuming": True, "retries": 2}), "RUNNING")
    assert "run_count" not in resumed
    assert resumed["empirical_policy"] == {"resuming": False, "retries": 2}


@pytest.mark.parametrize(
    ("policy", "tries", "seconds"),
    [
        ({}, 1, 0),
        ({"retry_delay": 7}, 3, 7),
        ({"retry_delay": [1, 2]}, 1, 1),
        ({"retry_delay": [1, 2]}, 5, 2),
        ({"retry_delay": [1, 2]}, 0, 1),
        ({"retry_delay": []}, 1, 0),
        ({"retry_delay": -1}, 1, 0),
        ({"retry_delay": 1e300}, 1, LONGEST_DELAY_SECONDS),
    ],
)
def test_the_delay_before_a_retry(policy: dict[str, Any], tries: int, seconds: float) -> None:
    assert retry_delay_seconds(policy, tries) == seconds


def test_jitter_stays_in_its_band() -> None:
    draws = [around(100, 0.3) for _ in range(500)]
    assert 74 < min(draws) < max(draws) <= 130

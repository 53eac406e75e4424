"""The columns of a run that follow from its states (contract: runs_states_orchestration.md, 1.4 and 5.4). Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from flowruns.orchestration.proposal import ProposedState
from flowruns.states import TERMINAL, StateType


class RunValues(Protocol):
    """The columns of a run as they are before the new state."""

    state_type: Any
    state_timestamp: Any
    start_time: Any
    end_time: Any
    expected_start_time: Any
    total_run_seconds: Any
    run_count: Any
    empirical_policy: Any


def derived(run: RunValues, new: ProposedState, at: datetime, *, is_task: bool = False) -> dict[str, Any]:
    """The columns that follow when `run` enters `new` at `at`; those that stay as they are may be among them."""
    running = new.type == StateType.RUNNING
    scheduled_for = new.scheduled_time if new.type == StateType.SCHEDULED else None
    columns: dict[str, Any] = {
        "state_type": new.type.value,
        "state_name": new.name,
        "state_timestamp": at,
        "next_scheduled_start_time": scheduled_for,
    }
    expected = run.expected_start_time
    if expected is None:
        expected = columns["expected_start_time"] = scheduled_for or at
    if run.start_time is None and (running or new.is_terminal):
        columns |= {"start_time": at, "start_delay_seconds": max(0.0, (at - expected).total_seconds())}
    if new.is_terminal and run.state_type not in TERMINAL:
        columns["end_time"] = at
    elif run.state_type in TERMINAL and not new.is_terminal:
        columns["end_time"] = None
    if run.state_type == StateType.RUNNING and run.state_timestamp:
        columns["total_run_seconds"] = run.total_run_seconds + max(0.0, (at - run.state_timestamp).total_seconds())
    resuming = not is_task and bool(run.empirical_policy.get("resuming"))
    if running and not resuming:
        columns["run_count"] = run.run_count + 1
    if resuming and (running or new.is_terminal):
        columns["empirical_policy"] = {**run.empirical_policy, "resuming": False}
    return columns

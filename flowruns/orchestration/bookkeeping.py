"""The columns of a run that follow from its states (contract: runs_states_orchestration.md, 1.4 and 5.4). Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flowruns.orchestration.proposal import ProposedState
from flowruns.states import TERMINAL, StateType


def derived(run: Any, new: ProposedState, at: datetime, *, is_task: bool = False) -> dict[str, Any]:
    """The columns that change when `run` (its columns as they are before) enters `new` at `at`."""
    old_type = run.state_type
    changes: dict[str, Any] = {"state_type": new.type.value, "state_name": new.name, "state_timestamp": at}
    if run.start_time is None and (new.type == StateType.RUNNING or new.is_terminal):
        changes["start_time"] = at
    if new.is_terminal and old_type not in TERMINAL:
        changes["end_time"] = at
    if old_type in TERMINAL and not new.is_terminal:
        changes["end_time"] = None
    if old_type == StateType.RUNNING and run.state_timestamp:
        changes["total_run_seconds"] = run.total_run_seconds + max(0.0, (at - run.state_timestamp).total_seconds())
    expected = run.expected_start_time
    if expected is None:
        expected = changes["expected_start_time"] = (new.scheduled_time if new.type == StateType.SCHEDULED else None) or at
    if "start_time" in changes:
        changes["start_delay_seconds"] = max(0.0, (at - expected).total_seconds())
    changes["next_scheduled_start_time"] = new.scheduled_time if new.type == StateType.SCHEDULED else None
    if new.type == StateType.RUNNING and (is_task or not run.empirical_policy.get("resuming")):
        changes["run_count"] = run.run_count + 1
    if not is_task and (new.type == StateType.RUNNING or new.is_terminal) and run.empirical_policy.get("resuming"):
        changes["empirical_policy"] = {**run.empirical_policy, "resuming": False}
    return changes

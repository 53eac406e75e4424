"""The vocabulary of states (contract: runs_states_orchestration.md, section 1.1). Pure."""

from __future__ import annotations

from enum import StrEnum


class StateType(StrEnum):
    SCHEDULED = "SCHEDULED"  # waits for its time
    PENDING = "PENDING"  # a worker has taken it and prepares infrastructure
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"  # the code of the run raised
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"  # the infrastructure failed
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"  # asked to stop; not confirmed yet


TERMINAL = frozenset({StateType.COMPLETED, StateType.CANCELLED, StateType.FAILED, StateType.CRASHED})
# States in which a run holds a slot of the limits above it.
HOLDING = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING})


def default_name(type_: str) -> str:
    """The name of a state that was given none: its type in capitalised words."""
    return type_.capitalize()

"""A state that somebody proposes, as a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from flowruns.states import TERMINAL, StateType, default_name

# Every key of the wire's `state_details`, with what it is when nothing was said (runs_states_orchestration.md, 1.1).
DETAILS: Mapping[str, Any] = {
    "flow_run_id": None,
    "task_run_id": None,
    "child_flow_run_id": None,
    "scheduled_time": None,
    "cache_key": None,
    "cache_expiration": None,
    "deferred": False,
    "untrackable_result": False,
    "pause_timeout": None,
    "pause_reschedule": False,
    "pause_key": None,
    "run_input_keyset": None,
    "refresh_cache": None,
    "retriable": None,
    "transition_id": None,
    "task_parameters_id": None,
    "traceparent": None,
    "deployment_concurrency_lease_id": None,
}


def full_details(given: Mapping[str, Any]) -> dict[str, Any]:
    """All keys of `state_details`; times are ISO text with the offset they were given."""
    return {**DETAILS, **given}


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def read_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ProposedState:
    """A state without id and time; both are the server's. A scheduled one without a time is for now."""

    type: StateType
    name: str = ""
    message: str | None = None
    data: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", default_name(self.type))
        if self.type == StateType.SCHEDULED and not self.details.get("scheduled_time"):
            now = iso(datetime.now(UTC))
            object.__setattr__(self, "details", {**self.details, "scheduled_time": now})

    def saying(self, **details: Any) -> Self:
        """The same state with further details."""
        return replace(self, details={**self.details, **details})

    @property
    def scheduled_time(self) -> datetime | None:
        return read_time(self.details.get("scheduled_time"))

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL

    @property
    def persisted(self) -> bool:
        """Whether the state carries a result that was kept somewhere."""
        return isinstance(self.data, dict) and self.data.get("type") != "unpersisted"

"""What the rules may answer to a proposed state. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowruns.orchestration.proposal import ProposedState


class Verdict(Exception):
    """Ends the asking: the proposal does not stand as it was made."""

    status: str
    reason: str
    replacement: ProposedState | None = None  # what is written instead

    def details(self) -> dict[str, Any]:
        return {"type": f"{self.status.lower()}_details", "reason": self.reason}


class Abort(Verdict):
    """Nothing is written, and the client stops this run."""

    status = "ABORT"

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Wait(Verdict):
    """Nothing is written, and the client tries again after so many seconds."""

    status = "WAIT"

    def __init__(self, seconds: int, reason: str) -> None:
        self.seconds = seconds
        self.reason = reason

    def details(self) -> dict[str, Any]:
        return {"type": "wait_details", "delay_seconds": self.seconds, "reason": self.reason}


class Reject(Verdict):
    """Another state is written instead, or none."""

    status = "REJECT"

    def __init__(self, reason: str, state: ProposedState | None = None) -> None:
        self.reason = reason
        self.replacement = state


@dataclass(frozen=True)
class Outcome:
    """The answer: the run's state after it, and whether this request wrote it."""

    status: str
    state: dict[str, Any] | None
    details: dict[str, Any]
    written: bool

    def body(self) -> dict[str, Any]:
        """The wire's orchestration result."""
        return {"state": self.state, "status": self.status, "details": self.details}

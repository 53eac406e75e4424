"""What a rule sees: the run, the state it is in, and the state proposed as it now stands."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType

Types = frozenset[StateType | None]
ANY: Types = frozenset({None, *StateType})
Version = tuple[int, int, int]
# What a rule does after the write; it is sent whether the proposal it agreed to is what was written.
Work = Generator[None, bool, None]
Steps = Work | None
RuleFunction = Callable[["Transition"], Steps]
RENEWING_CLIENT: Version = (3, 4, 11)


@dataclass
class Transition:
    """A move of one run. Rules may change `proposed`, `policy` and `columns`; the engine writes what they leave there.

    `policy` is the run's empirical policy and `columns` are further columns of the run. `client` is the version of the
    client that proposes, None when it is not known. `written` is the state that was written, known after a rule's yield.
    """

    run: Any
    initial: ProposedState | None
    proposed: ProposedState
    now: datetime
    policy: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    client: Version | None = None
    written: ProposedState | None = None

    @property
    def leaving(self) -> StateType | None:
        return self.initial.type if self.initial else None

    @property
    def renews_leases(self) -> bool:
        """Whether the client is known to renew the lease of its deployment slot."""
        return self.client is not None and self.client >= RENEWING_CLIENT

    def initial_detail(self, key: str) -> Any:
        return self.initial.details.get(key) if self.initial else None

    def carry(self, key: str) -> None:
        """Give the proposal a detail of the initial state, unless it has one of its own."""
        value = self.initial_detail(key)
        if value is not None and self.proposed.details.get(key) is None:
            self.proposed = self.proposed.saying(**{key: value})


@dataclass(frozen=True)
class Rule:
    """One rule: between which types it applies, and what it does."""

    function: RuleFunction
    leaving: Types
    entering: Types

    @property
    def name(self) -> str:
        return self.function.__name__

    def governs(self, leaving: StateType | None, entering: StateType) -> bool:
        return leaving in self.leaving and entering in self.entering


def rule(leaving: Types = ANY, entering: Types = ANY) -> Callable[[RuleFunction], Rule]:
    """A rule that applies to moves from one of `leaving` (None: no state yet) to one of `entering`."""
    return lambda function: Rule(function, leaving, entering)


def only(*types: StateType | None) -> Types:
    return frozenset(types)

"""Bodies of the global-limit routes (contract: concurrency_limits.md, section 2)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orchestrator.core.wire import EmbeddedBody, Name, NaturalInt, WireModel

Rate = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class LimitCreate(WireModel):
    name: Name
    limit: NaturalInt
    active: bool = True
    active_slots: NaturalInt = 0
    denied_slots: NaturalInt = 0
    slot_decay_per_second: Rate = 0.0


class LimitUpdate(WireModel):
    name: Name | None = None
    limit: NaturalInt | None = None
    active: bool | None = None
    active_slots: NaturalInt | None = None
    denied_slots: NaturalInt | None = None
    slot_decay_per_second: Rate | None = None


class LimitPage(EmbeddedBody):
    limit: int | None = None
    offset: NaturalInt = 0

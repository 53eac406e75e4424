"""Bodies of the global-limit routes (contract: concurrency_limits.md, section 2)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from orchestrator.core.wire import EmbeddedBody, Name, NaturalInt, PositiveInt, WireModel

MAX_NAMES = 1_000

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


Names = Annotated[list[str], Field(max_length=MAX_NAMES)]
Occupied = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
LeaseSeconds = Annotated[float, Field(ge=60, le=86_400, allow_inf_nan=False)]


class Mode(StrEnum):
    concurrency = "concurrency"
    rate_limit = "rate_limit"


class HolderType(StrEnum):
    flow_run = "flow_run"
    task_run = "task_run"
    deployment = "deployment"


class Holder(WireModel):
    type: HolderType
    id: UUID


class SlotsWanted(EmbeddedBody):
    names: Names
    slots: PositiveInt
    mode: Mode = Mode.concurrency
    create_if_missing: bool | None = None


class LeaseWanted(EmbeddedBody):
    names: Names
    slots: PositiveInt
    mode: Mode = Mode.concurrency
    lease_duration: LeaseSeconds = 300
    holder: Holder | None = None


class SlotsReturned(EmbeddedBody):
    names: Names
    slots: PositiveInt
    occupancy_seconds: Occupied | None = None
    create_if_missing: bool | None = None


class LeaseReturned(EmbeddedBody):
    lease_id: UUID


class LeaseRenewed(EmbeddedBody):
    lease_duration: LeaseSeconds = 300

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_duration)


class TagLimitCreate(WireModel):
    tag: Annotated[str, Field(min_length=1, max_length=10_000)]
    concurrency_limit: NaturalInt


class TagReset(EmbeddedBody):
    slot_override: Annotated[list[UUID], Field(max_length=MAX_NAMES)] | None = None


class TagSlots(EmbeddedBody):
    names: Names
    task_run_id: UUID


class LimitPage(EmbeddedBody):
    limit: int | None = None
    offset: NaturalInt = 0

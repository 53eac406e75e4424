"""Shapes of bodies: the pydantic base of everything a client may send."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from orchestrator.core.errors import InvalidRequest

# Postgres stores years 1 to 9999 well, but arithmetic next to the ends overflows.
EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9999, 12, 29, tzinfo=UTC)
MAX_LIST = 10_000
MAX_TEXT = 100_000
FORBIDDEN_IN_NAMES = re.compile(r"[/%&><]")


def _moment(value: Any) -> datetime:
    """A time as the wire gives it: ISO text, a date, or Unix seconds; naive is UTC; the offset is kept."""
    try:
        moment = _read_moment(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if EARLIEST <= moment <= LATEST:
            return moment
    except (ValueError, OverflowError, OSError, TypeError):
        pass
    raise ValueError(f"Unable to parse string [{str(value)[:100]}]")


def _read_moment(value: Any) -> datetime:
    match value:
        case datetime():
            return value
        case date():
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        case bool():
            raise ValueError
        case int() | float():
            return datetime.fromtimestamp(value, UTC)
        case str() if re.fullmatch(r"-?\d+(\.\d+)?", value.strip()) and len(value.strip()) != 8:
            return datetime.fromtimestamp(float(value), UTC)
        case str():
            return datetime.fromisoformat(value.strip())
    raise ValueError


Moment = Annotated[datetime, BeforeValidator(_moment)]


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


UtcMoment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_utc)]
Seconds = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(pattern=r"^[^/%&><]+$", max_length=10_240)]
PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1)]
NaturalInt = Annotated[int, Field(ge=0, le=2**31 - 1)]
Tags = Annotated[list[Text], Field(max_length=MAX_LIST)]
Object = dict[str, Any]
LabelValue = StrictBool | StrictInt | StrictFloat | StrictStr


class WireModel(BaseModel):
    """A body as the wire has it: lax coercions, unknown keys refused, schema built on first use."""

    model_config = ConfigDict(extra="forbid", defer_build=True, populate_by_name=True)

    def given(self) -> dict[str, Any]:
        """The fields that the client sent, by name."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class EmbeddedBody(WireModel):
    """One object with a key per parameter; unknown keys at this level are ignored, and it may be absent."""

    model_config = ConfigDict(extra="ignore")


def seconds(value: timedelta) -> float:
    return value.total_seconds()


def require_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest.single("dict_type", ("body",), "Input should be a valid dictionary", value, value)
    return value

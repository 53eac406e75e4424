"""Schedule objects on the wire: validation, defaults and the stored form. Contract: schedules_scheduler.md, section 1."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from dateutil import rrule as rules
from pydantic import AfterValidator, Field, field_validator

from deployments.timetable import MAX_CRON_CHARACTERS, CronFields, ScheduleError, parse_rrule
from orchestrator.core.wire import Moment, WireModel

MAX_RRULE_CHARACTERS = 6_500
LONGEST_INTERVAL = timedelta(days=36_525)


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    return frozenset(available_timezones())


def known_zone(name: str) -> str:
    if name not in zones():
        raise ValueError(f'Invalid timezone: "{name[:100]}" (specify in IANA tzdata format, for example, America/New_York)')
    return name


Zone = Annotated[str, AfterValidator(known_zone)]


class IntervalSchedule(WireModel):
    interval: timedelta
    anchor_date: Moment = Field(default_factory=lambda: datetime.now(UTC))
    timezone: Zone | None = None

    @field_validator("interval")
    @classmethod
    def positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("interval must be positive")
        if value > LONGEST_INTERVAL:
            raise ValueError("interval must be at most 100 years")
        return value

    def stored(self) -> dict[str, Any]:
        anchored = getattr(self.anchor_date.tzinfo, "key", None)
        return {
            "interval": self.interval.total_seconds(),
            "anchor_date": self.anchor_date.isoformat().replace("+00:00", "Z"),
            "timezone": self.timezone or anchored or "UTC",
        }


class CronSchedule(WireModel):
    cron: str
    timezone: str | None = None
    day_or: bool = True

    @field_validator("cron")
    @classmethod
    def readable(cls, value: str) -> str:
        if re.search(r"(^|[\s,/-])[rR]($|[\s,/(-])", value[:MAX_CRON_CHARACTERS]):
            raise ValueError(f'Random and Hashed expressions are unsupported, received: "{value[:100]}"')
        try:
            CronFields.parse(value)
        except ScheduleError:
            raise ValueError(f'Invalid cron string: "{value[:100]}"') from None
        return value

    @field_validator("timezone")
    @classmethod
    def zone(cls, value: str | None) -> str | None:
        return known_zone(value) if value else value

    def stored(self) -> dict[str, Any]:
        return {"cron": self.cron, "timezone": self.timezone, "day_or": self.day_or}


class RRuleSchedule(WireModel):
    rrule: str
    timezone: Zone | None = "UTC"

    @field_validator("rrule")
    @classmethod
    def readable(cls, value: str) -> str:
        if len(value) > MAX_RRULE_CHARACTERS:
            raise ValueError(f'Invalid RRule string "{value[:40]}..."\nMax length is {MAX_RRULE_CHARACTERS}, got {len(value)}')
        try:
            parse_rrule(value)
        except ScheduleError as error:
            raise ValueError(f'Invalid RRule string "{value}": {error}') from None
        return value

    def stored(self) -> dict[str, Any]:
        return {"rrule": anchored(self.rrule, self.timezone or "UTC"), "timezone": self.timezone}


def anchored(text: str, zone: str) -> str:
    """`text` with a DTSTART: without one, fast rules start near now in phase with 2020, all others in 2020."""
    if "DTSTART" in text.upper():
        return text
    start = datetime(2020, 1, 1)
    found = parse_rrule(text)
    if isinstance(found, rules.rrule) and found._freq >= rules.MINUTELY and found._count is None:  # type: ignore[attr-defined]
        unit = 60 if found._freq == rules.MINUTELY else 1  # type: ignore[attr-defined]
        step = timedelta(seconds=unit * found._interval)  # type: ignore[attr-defined]
        now = datetime.now(ZoneInfo(zone)).replace(tzinfo=None)
        start += (now - start) // step * step
    return f"DTSTART:{start:%Y%m%dT%H%M%S}\n{text}"


Schedule = IntervalSchedule | CronSchedule | RRuleSchedule


def stored(schedule: Schedule) -> dict[str, Any]:
    """The JSON object to keep and to show."""
    return schedule.stored()


def identity(schedule: Mapping[str, Any], parameters: Mapping[str, Any], slug: str | None) -> str:
    """What makes a schedule the same one after a redeploy: its slug, else its content, whatever the order of keys."""
    if slug:
        return f"slug {slug}"
    content = json.dumps([schedule, parameters], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

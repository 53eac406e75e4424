"""Schedules as instants. Pure. Contract: schedules_scheduler.md, sections 1 and 2.

Wall-clock times are resolved one way, on every Python: a time that a zone skips is moved on by the gap (02:30 becomes
03:30), and one that occurs twice is the first of the two. Times come in ascending order of their instant, each once.
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cached_property
from itertools import takewhile
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterError
from dateutil import rrule as rules

MAX_CANDIDATES = 1_000
LONGEST_WALK_SECONDS = 0.1
CRON_YEARS_AHEAD = 28  # the Gregorian calendar repeats its weekdays after 28 years
MAX_CRON_CHARACTERS = 1_000
RRULE_EPOCH = datetime(2020, 1, 1)
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
DAY = 86_400
STEP_SECONDS = {rules.WEEKLY: 7 * DAY, rules.DAILY: DAY, rules.HOURLY: 3_600, rules.MINUTELY: 60, rules.SECONDLY: 1}
MAX_INTERVAL = 100_000
# Where a search for a rule's first time starts: it ends at the end of the calendar, so it is short, and long enough to
# meet every weekday and a leap year.
NEAR_THE_END = datetime(9950, 1, 1)


class ScheduleError(ValueError):
    """A schedule that cannot be planned: what is wrong with it."""


class Timetable(Protocol):
    def after(self, start: datetime) -> Iterator[datetime]:
        """Times at or after `start`, in the schedule's zone, ascending; endless where the schedule is."""


def resolved(wall: datetime, zone: tzinfo) -> datetime:
    """The instant, in UTC, of a naive wall-clock time: the first of two, or past a gap by the gap."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def rising(instants: Iterator[datetime], start: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The instants from `start` on that are later than the one before, shown in the zone."""
    last: datetime | None = None
    for instant in instants:
        if instant >= start and (last is None or instant > last):
            last = instant
            yield instant.astimezone(zone)


def wall_clock_before(start: datetime, zone: tzinfo) -> datetime:
    """A naive time from which to look for wall-clock times that resolve to `start` or later.

    A time inside a gap resolves past it, so on a day that lost time the look begins that much earlier.
    """
    local = start.astimezone(zone)
    day_before = (start - timedelta(days=1)).astimezone(zone)
    lost = (local.utcoffset() or timedelta(0)) - (day_before.utcoffset() or timedelta(0))
    return local.replace(tzinfo=None, fold=0) - max(lost, timedelta(0))


@dataclass(frozen=True)
class Interval:
    """Every `interval` from `anchor`. A day or more is counted on the wall clock, less in elapsed time."""

    interval: timedelta
    anchor: datetime
    timezone: str = "UTC"

    def after(self, start: datetime) -> Iterator[datetime]:
        zone = ZoneInfo(self.timezone)
        try:
            if self.interval < timedelta(days=1):
                count = -((self.anchor - start) // self.interval)
                instant = self.anchor.astimezone(UTC) + count * self.interval
                while True:
                    if instant >= start:
                        yield instant.astimezone(zone)
                    instant += self.interval
            anchor = self.anchor.astimezone(zone).replace(tzinfo=None, fold=0)
            count = -((anchor - wall_clock_before(start, zone)) // self.interval) - 1
            yield from rising(self._walls(anchor, count, zone), start, zone)
        except OverflowError:
            return  # the end of the calendar

    def _walls(self, anchor: datetime, count: int, zone: tzinfo) -> Iterator[datetime]:
        while True:
            yield resolved(anchor + count * self.interval, zone)
            count += 1


@dataclass(frozen=True)
class Cron:
    """Wall-clock times that match a cron expression."""

    cron: str
    timezone: str | None = None
    day_or: bool = True

    def after(self, start: datetime) -> Iterator[datetime]:
        zone = ZoneInfo(self.timezone or "UTC")
        walls = self.walls(wall_clock_before(start, zone))
        try:
            yield from rising((resolved(wall, zone) for wall in walls), start, zone)
        except OverflowError:
            return

    @cached_property
    def fields(self) -> CronFields:
        return CronFields.parse(self.cron)

    def walls(self, start: datetime) -> Iterator[datetime]:
        """Naive times that match, from `start` on; none when a cycle of the calendar has none."""
        parts = self.fields
        day, last_found = start.date(), start.date()
        while True:
            if day.year - last_found.year > CRON_YEARS_AHEAD or day.year > 9998:
                return
            if day.month not in parts.months or day.year not in parts.years:
                day = next_month(day)
                continue
            if parts.matches(day, self.day_or):
                last_found = day
                yield from parts.times(day, start if day == start.date() else None)
            day += timedelta(days=1)


def next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


@dataclass(frozen=True)
class CronFields:
    """The numbers a cron expression allows. `nth` maps a weekday to the weeks of the month, `last` to its last week."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    nth: Mapping[int, frozenset[int | str]]
    years: range | frozenset[int]
    any_day: bool
    any_weekday: bool

    @classmethod
    def parse(cls, expression: str) -> CronFields:
        """Raises ScheduleError for what the grammar of the contract does not have."""
        text = ALIASES.get(expression.strip().lower(), expression)
        if len(text) > MAX_CRON_CHARACTERS:
            raise ScheduleError("The expression is too long.")
        words = text.lower().split()
        if not 5 <= len(words) <= 7 or "r" in words[0] or "w" in words[2] or "h" in "".join(words[:3]):
            raise ScheduleError("The expression is not a cron expression.")
        try:
            found, nth = croniter.expand(" ".join(words))
        except (CroniterError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise ScheduleError(str(error)) from None
        second = found[5] if len(found) > 5 else [0]
        years = found[6] if len(found) > 6 else ["*"]
        return cls(
            seconds=spread(second, 0, 59),
            minutes=spread(found[0], 0, 59),
            hours=spread(found[1], 0, 23),
            days=frozenset(day for day in spread(found[2], 1, 31) if isinstance(day, int)),
            last_day="l" in found[2],
            months=frozenset(spread(found[3], 1, 12)),
            weekdays=frozenset(spread(found[4], 0, 6)),
            nth={weekday: frozenset(weeks) for weekday, weeks in nth.items()},
            years=range(1, 9999) if "*" in years else frozenset(year for year in years if isinstance(year, int)),
            any_day="*" in found[2],
            any_weekday="*" in found[4],
        )

    def matches(self, day: date, day_or: bool) -> bool:
        if self.any_day or self.any_weekday or not day_or:
            return self._month_day(day) and self._week_day(day)
        return self._month_day(day) or self._week_day(day)

    def _month_day(self, day: date) -> bool:
        if self.any_day or day.day in self.days:
            return True
        return self.last_day and day.day == calendar.monthrange(day.year, day.month)[1]

    def _week_day(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        if self.any_weekday:
            return True
        if weekday not in self.weekdays:
            return False
        weeks = self.nth.get(weekday)
        if not weeks:
            return not self.nth
        is_last = day.day + 7 > calendar.monthrange(day.year, day.month)[1]
        return (day.day + 6) // 7 in weeks or ("l" in weeks and is_last)

    def times(self, day: date, start: datetime | None) -> Iterator[datetime]:
        """The matching times of a day, from `start` on when it is that day."""
        for hour in self.hours:
            if start and hour < start.hour:
                continue
            for minute in self.minutes:
                if start and (hour, minute) < (start.hour, start.minute):
                    continue
                for second in self.seconds:
                    wall = datetime(day.year, day.month, day.day, hour, minute, second)
                    if start is None or wall >= start:
                        yield wall


def spread(values: list[Any], low: int, high: int) -> tuple[Any, ...]:
    """The numbers of a field; all of them for `*`."""
    if "*" in values:
        return tuple(range(low, high + 1))
    return tuple(sorted({value for value in values if isinstance(value, int)}))


@dataclass(frozen=True)
class RRule:
    """RFC 5545 recurrence text, its wall-clock digits read in the schedule's zone."""

    rrule: str
    timezone: str | None = "UTC"

    def after(self, start: datetime) -> Iterator[datetime]:
        zone = ZoneInfo(self.timezone or "UTC")
        walls = self._near(wall_clock_before(start, zone))
        yield from rising((resolved(wall, zone) for wall in walls), start, zone)

    @cached_property
    def rules(self) -> rules.rrule | rules.rruleset:
        return parse_rrule(self.rrule)

    def _near(self, start: datetime) -> Iterator[datetime]:
        return (wall for wall in bounded(iter(near(self.rules, start))) if wall >= start)


def parse_rrule(text: str) -> rules.rrule | rules.rruleset:
    """The rules of `text`, all naive; what is returned finds each next time quickly. Raises ScheduleError."""
    try:
        found = rules.rrulestr(text, dtstart=RRULE_EPOCH, ignoretz=True, cache=False)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise ScheduleError(str(error) or "The rule is malformed.") from None
    parts = [found] if isinstance(found, rules.rrule) else [*found._rrule, *found._exrule]  # type: ignore[attr-defined]
    for part in parts:
        check_rule(part)
    return found


def check_rule(rule: rules.rrule) -> None:
    """Raise ScheduleError for a rule that would search for ever, or for seconds, between two of its times."""
    if not 1 <= rule._interval <= MAX_INTERVAL:  # type: ignore[attr-defined]
        raise ScheduleError(f"INTERVAL must be from 1 to {MAX_INTERVAL:,}.")
    chosen: dict[str, Any] = rule._original_rule  # type: ignore[attr-defined]
    dates = {"bymonth", "bymonthday", "byyearday", "byweekno", "byeaster"} & {key for key, value in chosen.items() if value}
    weekdays = bool(chosen.get("byweekday"))
    frequency = rule._freq  # type: ignore[attr-defined]
    if frequency > rules.DAILY and chosen.get("bysetpos"):
        raise ScheduleError("BYSETPOS needs a frequency of a day or more.")
    if (frequency == rules.MINUTELY and dates) or (frequency == rules.SECONDLY and (dates or weekdays)):
        raise ScheduleError("Rules of minutes and seconds may not choose dates; use BYHOUR and BYMINUTE of a daily rule.")
    if not (dates or weekdays or chosen.get("bysetpos")):
        return
    probe = rule.replace(freq=min(frequency, rules.DAILY), dtstart=NEAR_THE_END, until=None, count=None, interval=1)
    if next(iter(probe), None) is None:
        raise ScheduleError("The rule never yields a time.")


def near(found: rules.rrule | rules.rruleset, start: datetime) -> rules.rrule | rules.rruleset:
    """The same occurrences from `start` on, begun near it: walking there from a rule's own start can take minutes."""
    if isinstance(found, rules.rrule):
        return near_rule(found, start)
    moved = rules.rruleset(cache=False)
    moved._rdate, moved._exdate = found._rdate, found._exdate  # type: ignore[attr-defined]
    moved._rrule = [near_rule(rule, start) for rule in found._rrule]  # type: ignore[attr-defined]
    moved._exrule = [near_rule(rule, start) for rule in found._exrule]  # type: ignore[attr-defined]
    return moved


def near_rule(rule: rules.rrule, start: datetime) -> rules.rrule:
    """The rule begun near `start`, where its step is a fixed time and nothing counts from its start."""
    frequency, begun = rule._freq, rule._dtstart  # type: ignore[attr-defined]
    if frequency not in STEP_SECONDS or rule._count is not None or begun >= start:  # type: ignore[attr-defined]
        return rule
    step = timedelta(seconds=STEP_SECONDS[frequency] * rule._interval)  # type: ignore[attr-defined]
    return rule.replace(dtstart=begun + max(0, (start - begun) // step - 1) * step)


def bounded(walls: Iterator[datetime]) -> Iterator[datetime]:
    """`walls`, given up with a ScheduleError when walking them takes too long."""
    begun = time.thread_time()
    for wall in walls:
        yield wall
        if time.thread_time() - begun > LONGEST_WALK_SECONDS:
            raise ScheduleError("The rule takes too long to compute.")


@dataclass(frozen=True)
class Planned:
    """The times to make runs for, and when to plan again; None when there is nothing more to come."""

    dates: tuple[datetime, ...]
    refill_at: datetime | None


@dataclass(frozen=True)
class Horizon:
    """How far ahead runs exist: at least `min_runs` and `min_time`, at most `max_runs` and `max_time`."""

    min_runs: int = 3
    max_runs: int = 100
    min_time: timedelta = field(default=timedelta(hours=1))
    max_time: timedelta = field(default=timedelta(days=100))

    def of(self, timetable: Timetable, start: datetime, end: datetime | None = None) -> Planned:
        """The times from `start` on. Appended first, then asked whether they suffice: `max_runs` 0 still gives one."""
        end = end or start + self.max_time
        most = min(max(self.max_runs, 1), MAX_CANDIDATES)
        dates: list[datetime] = []
        beyond: datetime | None = None
        for moment in timetable.after(start):
            if moment > end:
                beyond = moment
                break
            dates.append(moment)
            enough = len(dates) >= self.min_runs and moment >= start + self.min_time
            if enough or len(dates) >= most:
                return Planned(tuple(dates), self._refill(dates, start, capped=not enough))
        return Planned(tuple(dates), beyond - self.max_time if beyond else None)

    def _refill(self, dates: list[datetime], start: datetime, *, capped: bool) -> datetime:
        if capped:
            return max(dates[len(dates) // 2], start + timedelta(seconds=1))
        # Fewer than `min_runs` are ahead once this one has passed.
        scarce = dates[-self.min_runs] if self.min_runs else dates[-1]
        return max(min(scarce, dates[-1] - self.min_time), start) + timedelta(microseconds=1)


def parse(schedule: Mapping[str, Any]) -> Timetable:
    """The timetable of a stored schedule object. Raises ScheduleError."""
    try:
        if "interval" in schedule:
            interval = timedelta(seconds=float(schedule["interval"]))
            if interval <= timedelta(0):
                raise ScheduleError("interval must be positive")
            anchor = datetime.fromisoformat(schedule["anchor_date"])
            zone = schedule.get("timezone") or "UTC"
            ZoneInfo(zone)
            return Interval(interval, anchor if anchor.tzinfo else anchor.replace(tzinfo=UTC), zone)
        if schedule.get("timezone"):
            ZoneInfo(schedule["timezone"])
        if "cron" in schedule:
            cron = Cron(schedule["cron"], schedule.get("timezone"), schedule.get("day_or", True))
            _ = cron.fields
            return cron
        rule = RRule(schedule["rrule"], schedule.get("timezone"))
        _ = rule.rules
        return rule
    except ScheduleError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ScheduleError(f"Not a schedule: {error}") from None


WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


def in_words(schedule: Mapping[str, Any]) -> str:
    """A schedule as an operator would say it; the expression itself where that is clearer."""
    zone = f" ({schedule['timezone']})" if schedule.get("timezone") not in (None, "", "UTC") else ""
    if "interval" in schedule:
        return f"Every {timedelta(seconds=float(schedule['interval']))}{zone}"
    if "cron" in schedule:
        return cron_in_words(schedule["cron"]) + zone
    return " ".join(takewhile(bool, str(schedule.get("rrule", json.dumps(dict(schedule)))).splitlines())) + zone


def cron_in_words(expression: str) -> str:
    try:
        parts = CronFields.parse(expression)
    except ScheduleError:
        return expression
    every_day = parts.any_day and len(parts.months) == 12 and not parts.nth
    if not every_day or len(parts.seconds) != 1:
        return f"Cron {expression}"
    days = ""
    if not parts.any_weekday:
        days = ", " + ", ".join(WEEKDAYS[day] for day in sorted(parts.weekdays))
    if len(parts.minutes) == 60 and len(parts.hours) == 24:
        return f"Every minute{days}"
    if len(parts.minutes) == 1 and len(parts.hours) == 24:
        return f"Every hour at minute {parts.minutes[0]}{days}"
    if len(parts.minutes) == 1 and len(parts.hours) <= 4:
        return "At " + " and ".join(f"{hour:02}:{parts.minutes[0]:02}" for hour in parts.hours) + days
    return f"Cron {expression}"

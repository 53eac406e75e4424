"""Schedules as instants: golden vectors over zones and transitions, and schedules that mean harm."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.timetable import Horizon, ScheduleError, in_words, parse

NY = "America/New_York"


def fires(schedule: dict[str, Any], start: str, count: int) -> list[str]:
    begin = datetime.fromisoformat(start)
    return [moment.isoformat() for moment in islice(parse(schedule).after(begin), count)]


GOLDEN = [
    # A gap: the time that does not exist is moved on by the gap, and the next day is as usual.
    ({"cron": "30 2 * * *", "timezone": NY}, "2026-03-08T00:00:00-05:00",
     ["2026-03-08T03:30:00-04:00", "2026-03-09T02:30:00-04:00"]),
    # An overlap: the first of the two.
    ({"cron": "30 1 * * *", "timezone": NY}, "2026-11-01T00:00:00-04:00",
     ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]),
    ({"cron": "0 * * * *", "timezone": NY}, "2026-03-08T00:00:00-05:00",
     ["2026-03-08T00:00:00-05:00", "2026-03-08T01:00:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T04:00:00-04:00"]),
    ({"cron": "0 * * * *", "timezone": NY}, "2026-11-01T00:00:00-04:00",
     ["2026-11-01T00:00:00-04:00", "2026-11-01T01:00:00-04:00", "2026-11-01T02:00:00-05:00", "2026-11-01T03:00:00-05:00"]),
    ({"rrule": "FREQ=HOURLY", "timezone": NY}, "2026-11-01T00:00:00-04:00",
     ["2026-11-01T00:00:00-04:00", "2026-11-01T01:00:00-04:00", "2026-11-01T02:00:00-05:00"]),
    # An hourly interval is every hour of elapsed time, also where the clock shows one twice.
    ({"interval": 3600, "anchor_date": "2020-01-01T00:00:00Z", "timezone": NY}, "2026-11-01T00:00:00-04:00",
     ["2026-11-01T00:00:00-04:00", "2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"]),
    ({"interval": 86400, "anchor_date": "2020-01-01T02:30:00-05:00", "timezone": NY}, "2026-03-07T12:00:00-05:00",
     ["2026-03-08T03:30:00-04:00", "2026-03-09T02:30:00-04:00"]),
    ({"interval": 129600, "anchor_date": "2020-01-01T00:00:00-05:00", "timezone": NY}, "2026-03-07T06:00:00-05:00",
     ["2026-03-07T12:00:00-05:00", "2026-03-09T00:00:00-04:00"]),
    ({"cron": "0 9 * * *", "timezone": "Europe/Vienna"}, "2026-03-28T12:00:00+01:00",
     ["2026-03-29T09:00:00+02:00", "2026-03-30T09:00:00+02:00"]),
    ({"cron": "30 1 * * *", "timezone": "Europe/London"}, "2026-03-29T00:00:00+00:00",
     ["2026-03-29T02:30:00+01:00", "2026-03-30T01:30:00+01:00"]),
    # Half an hour of daylight saving.
    ({"cron": "15 2 * * *", "timezone": "Australia/Lord_Howe"}, "2026-10-04T00:00:00+10:30",
     ["2026-10-04T02:45:00+11:00", "2026-10-05T02:15:00+11:00"]),
    # A day that was skipped.
    ({"cron": "0 0 * * *", "timezone": "Pacific/Apia"}, "2011-12-29T00:00:00-10:00",
     ["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"]),
    ({"cron": "0 6 * * *", "timezone": "Asia/Kolkata"}, "2026-01-01T00:00:00+05:30", ["2026-01-01T06:00:00+05:30"]),
    ({"cron": "0 6 * * *", "timezone": "Asia/Tehran"}, "2026-03-22T00:00:00+03:30", ["2026-03-22T06:00:00+03:30"]),
    ({"cron": "0 3 * * *", "timezone": "Pacific/Chatham"}, "2026-09-27T00:00:00+12:45",
     ["2026-09-27T04:00:00+13:45", "2026-09-28T03:00:00+13:45"]),
    ({"cron": "30 2 * * *", "timezone": "Pacific/Auckland"}, "2026-04-05T00:00:00+13:00",
     ["2026-04-05T02:30:00+13:00", "2026-04-06T02:30:00+12:00"]),
    ({"cron": "0 2 * * *", "timezone": "Africa/Casablanca"}, "2026-02-15T00:00:00+01:00",
     ["2026-02-15T02:00:00+01:00"]),
    ({"cron": "0 0 * * *", "timezone": "America/Sao_Paulo"}, "2018-11-03T12:00:00-03:00",
     ["2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"]),
    ({"cron": "0 12 * * *"}, "2026-03-08T00:00:00+00:00", ["2026-03-08T12:00:00+00:00"]),
    # The digits of a rule are read in the schedule's zone, whatever they claim.
    ({"rrule": "DTSTART:20200101T090000Z\nFREQ=DAILY", "timezone": NY}, "2026-03-07T12:00:00-05:00",
     ["2026-03-08T09:00:00-04:00"]),
    ({"rrule": "DTSTART:20260101T090000\nRRULE:FREQ=DAILY\nEXDATE:20260102T090000", "timezone": "UTC"},
     "2026-01-01T00:00:00+00:00", ["2026-01-01T09:00:00+00:00", "2026-01-03T09:00:00+00:00"]),
    ({"rrule": "DTSTART:20260101T090000\nFREQ=DAILY;COUNT=2", "timezone": "UTC"}, "2026-01-01T00:00:00+00:00",
     ["2026-01-01T09:00:00+00:00", "2026-01-02T09:00:00+00:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "start", "expected"), GOLDEN)
def test_a_schedule_fires_when_its_zone_says(schedule: dict[str, Any], start: str, expected: list[str]) -> None:
    assert fires(schedule, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 0 L * *", ["2026-02-28", "2026-03-31"]),
        ("0 0 * * L5", ["2026-02-27", "2026-03-27"]),
        ("0 0 * * 5#2", ["2026-02-13", "2026-03-13"]),
        ("0 0 */15 * *", ["2026-02-01", "2026-02-16", "2026-03-01", "2026-03-16", "2026-03-31"]),
        ("0 0 13 * 5", ["2026-02-06", "2026-02-13", "2026-02-20"]),
        ("0 0 * 12-1 *", ["2026-12-01"]),
        ("@monthly", ["2026-02-01", "2026-03-01"]),
        ("0 0 ? * mon-tue", ["2026-02-02", "2026-02-03"]),
        ("0 0 1 1 * 0 2030", ["2030-01-01"]),
    ],
)
def test_cron_days(cron: str, expected: list[str]) -> None:
    found = fires({"cron": cron}, "2026-02-01T00:00:00+00:00", len(expected))
    assert [text[:10] for text in found] == expected


def test_both_day_fields_are_joined_with_and_when_asked() -> None:
    found = fires({"cron": "0 0 13 * 5", "day_or": False}, "2026-01-01T00:00:00+00:00", 3)
    assert [text[:10] for text in found] == ["2026-02-13", "2026-03-13", "2026-11-13"]


FIELD = st.sampled_from(["*", "*/5", "0", "7", "0,30", "1-5", "10-20/3"])
HOUR = st.sampled_from(["*", "*/6", "0", "3", "22-2", "9-17/2"])
DAY = st.sampled_from(["*", "1", "15,28"])
MONTH = st.sampled_from(["*", "1", "2", "6-8", "11-2"])
WEEKDAY = st.sampled_from(["*", "0", "1-5", "6-1", "sun", "7"])


@settings(max_examples=150, deadline=None)
@given(FIELD, HOUR, DAY, MONTH, WEEKDAY, st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
def test_cron_agrees_with_croniter_where_there_is_no_transition(
    minute: str, hour: str, day: str, month: str, weekday: str, start: datetime
) -> None:
    expression = f"{minute} {hour} {day} {month} {weekday}"
    begin = start.replace(microsecond=0, tzinfo=UTC)
    oracle = croniter(expression, begin - timedelta(seconds=1), ret_type=datetime)
    expected = [oracle.get_next() for _ in range(5)]
    assert list(islice(parse({"cron": expression}).after(begin), 5)) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([NY, "Europe/Vienna", "Australia/Lord_Howe", "Pacific/Apia", "UTC", "Asia/Tehran"]),
    st.sampled_from([{"cron": "*/30 * * * *"}, {"rrule": "FREQ=HOURLY"}, {"interval": 5400}, {"interval": 100000}]),
    st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1)),
)
def test_times_rise_strictly_and_never_precede_the_start(zone: str, schedule: dict[str, Any], start: datetime) -> None:
    begin = start.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = list(islice(parse({"anchor_date": "2020-01-01T00:00:00Z", **schedule, "timezone": zone}).after(begin), 50))
    instants = [moment.astimezone(UTC) for moment in found]
    assert len(instants) == 50
    assert instants[0] >= begin
    assert all(earlier < later for earlier, later in pairwise(instants))


HOSTILE: list[dict[str, Any]] = [
    {"cron": "0 0 30 2 *"},
    {"cron": ",".join(["1"] * 200_000) + " * * * *"},
    {"interval": 0.000001, "anchor_date": "2020-01-01T00:00:00Z"},
    {"interval": 86400 * 36500, "anchor_date": "9000-01-01T00:00:00Z"},
    {"rrule": "FREQ=MONTHLY;INTERVAL=0;BYDAY=MO;BYMONTHDAY=1"},
    {"rrule": "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"},
    {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"},
    {"rrule": "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"},
    {"rrule": "FREQ=MINUTELY;COUNT=1000000000"},
    {"rrule": "FREQ=DAILY;UNTIL=99991231T235959"},
    {"rrule": "FREQ=SECONDLY"},
    {"rrule": "RDATE:" + ",".join(["20200101T000000"] * 400)},
]


@pytest.mark.parametrize("schedule", HOSTILE, ids=lambda schedule: str(schedule)[:50])
def test_a_hostile_schedule_is_refused_or_bounded(schedule: dict[str, Any]) -> None:
    begun = time.thread_time()
    try:
        planned = Horizon().of(parse(schedule), datetime(2026, 3, 7, 12, tzinfo=UTC))
        assert len(planned.dates) <= 100
    except ScheduleError as error:
        assert str(error)
    # The work is bounded at 100 ms; the rest is room for a slow machine.
    assert time.thread_time() - begun < 0.4


@pytest.mark.parametrize(
    ("schedule", "count"),
    [({"cron": "0 * * * *"}, 3), ({"cron": "* * * * *"}, 61), ({"cron": "0 0 * * *"}, 3), ({"cron": "* * * * * *"}, 100)],
)
def test_a_horizon_holds_what_the_contract_says(schedule: dict[str, Any], count: int) -> None:
    now = datetime(2026, 3, 7, 12, tzinfo=UTC)
    planned = Horizon().of(parse(schedule), now)
    assert len(planned.dates) == count
    assert planned.refill_at is not None and planned.refill_at > now


def test_a_schedule_beyond_the_horizon_is_looked_at_again_in_time() -> None:
    planned = Horizon().of(parse({"cron": "0 0 1 1 *"}), datetime(2026, 3, 7, tzinfo=UTC))
    assert (planned.dates, planned.refill_at) == ((), datetime(2027, 1, 1, tzinfo=UTC) - timedelta(days=100))


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"cron": "0 9 * * 1-5", "timezone": "Europe/Vienna"},
         "At 09:00, Monday, Tuesday, Wednesday, Thursday, Friday (Europe/Vienna)"),
        ({"cron": "* * * * *"}, "Every minute"),
        ({"interval": 3600.0, "timezone": "UTC"}, "Every 1:00:00"),
        ({"cron": "nonsense"}, "nonsense"),
    ],
)  # fmt: skip
def test_a_schedule_is_said_in_words(schedule: dict[str, Any], words: str) -> None:
    assert in_words(schedule) == words

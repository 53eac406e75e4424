"""Events counted by name, resource or time (contract: events_automations.md, section 2)."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Count, F, Max, Min
from django.db.models.expressions import RawSQL

from orchestrator.core.databases import rows_of_json
from orchestrator.core.errors import Unprocessable
from orchestrator.events.filters import EventFilter
from orchestrator.events.models import Event

MAX_BUCKETS = 1_000
# The instant from which buckets are counted, so that they lie the same whatever window is asked for.
PIVOT = datetime(2024, 4, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
UNITS = {
    "week": timedelta(weeks=1),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
}

Counted = list[dict[str, Any]]


def by_name(asked: EventFilter) -> Counted:
    found = Event.objects.filter(asked.q()).order_by().values("event")
    groups = found.annotate(count=Count("*"), first=Min("occurred"), last=Max("occurred")).order_by("-count", "event")
    return [entry(row["event"], row["event"], row["count"], row["first"], row["last"]) for row in groups[:MAX_BUCKETS]]


def by_resource(asked: EventFilter) -> Counted:
    found = Event.objects.filter(asked.q()).order_by().values("resource_id")
    groups = list(
        found.annotate(count=Count("*"), first=Min("occurred"), last=Max("occurred"), latest=Max("position")).order_by(
            "-count", "resource_id"
        )[:MAX_BUCKETS]
    )
    resources = dict(Event.objects.filter(pk__in=[row["latest"] for row in groups]).values_list("position", "resource"))
    counted = []
    for row in groups:
        labels = resources[row["latest"]]
        name = labels.get("prefect.resource.name") or labels.get("prefect.name") or row["resource_id"]
        counted.append(entry(row["resource_id"], name, row["count"], row["first"], row["last"]))
    return sorted(counted, key=lambda item: (-item["count"], item["label"]))


def entry(value: str, label: str, count: int, start: datetime, end: datetime) -> dict[str, Any]:
    return {"value": value, "label": label, "count": count, "start_time": start, "end_time": end}


def spans(since: datetime, until: datetime, unit: timedelta, interval: float) -> list[tuple[datetime, datetime]]:
    """Spans of `interval` units that cover the window; they lie on multiples from the pivot. Raises Unprocessable."""
    now = datetime.now(UTC)
    until = min(until, PIVOT + unit * math.ceil((now - PIVOT) / unit))
    step = unit * interval
    if until < since:
        return []
    start = PIVOT + step * math.floor((since - PIVOT) / step)
    number = math.floor((until - start) / step) + 1
    if number > MAX_BUCKETS:
        raise Unprocessable(
            f"The given interval would create {number} buckets, which is too many. Please increase the interval or reduce "
            f"the time range to produce {MAX_BUCKETS} buckets or fewer."
        )
    return [(start + step * i, start + step * (i + 1)) for i in range(number)]


def by_time(asked: EventFilter, unit: timedelta, interval: float) -> Counted:
    """One query: each span is a range of the index on time."""
    asked_spans = spans(asked.occurred.since, asked.occurred.until, unit, interval)
    counts = counted_per_span(asked, asked_spans) if asked_spans else {}
    return [
        entry(str(i), start.isoformat(), counts.get(i, 0), start, end - MICROSECOND) for i, (start, end) in enumerate(asked_spans)
    ]


def counted_per_span(asked: EventFilter, asked_spans: list[tuple[datetime, datetime]]) -> dict[int, int]:
    in_span = Event.objects.filter(occurred__gte=RawSQL("span.begin", ()), occurred__lt=RawSQL("span.finish", ()))
    counting = in_span.filter(asked.q()).order_by().annotate(all=F("position") * 0).values("all").annotate(number=Count("*"))
    try:
        sql, params = counting.values("number").query.sql_with_params()
    except EmptyResultSet:
        return {}
    stored = connection.ops.adapt_datetimefield_value
    sent = json.dumps([[i, str(stored(begin)), str(stored(finish))] for i, (begin, finish) in enumerate(asked_spans)])
    given = rows_of_json({"place": "int", "begin": "timestamptz", "finish": "timestamptz"}, "span")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT span.place, ({sql}) FROM {given}", [*params, sent])  # noqa: S608
        return {place: number or 0 for place, number in cursor.fetchall()}

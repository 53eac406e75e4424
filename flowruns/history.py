"""Runs counted per span of time and state (contract: runs_states_orchestration.md, section 2, `/history`)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Count, F, FloatField, Func, Model, Q, QuerySet, Sum, Value
from django.db.models.expressions import Combinable, RawSQL
from django.db.models.functions import Coalesce
from django.utils import timezone

from flowruns.states import TERMINAL, StateType
from orchestrator.core.databases import is_postgresql, rows_of_json

MAX_BUCKETS = 500
SPAN = {"place": "int", "begin": "timestamptz", "finish": "timestamptz"}

Matching = Callable[[QuerySet[Any]], QuerySet[Any]]


class SecondsSince(Func):
    """Seconds from the time in a column to `now`."""

    output_field = FloatField()

    def __init__(self, column: str, now: datetime) -> None:
        super().__init__(Value(now), F(column))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "((julianday(%(expressions)s)) * 86400.0)"
        return super().as_sql(compiler, connection, template=template, arg_joiner=") - julianday(", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "EXTRACT(EPOCH FROM %(expressions)s)::float8"
        return super().as_sql(compiler, connection, template=template, arg_joiner=" - ", **context)


def total_run_time(now: datetime) -> Combinable:
    """Seconds the runs have run, up to `now` where they still do."""
    still = Sum(SecondsSince("state_timestamp", now), filter=Q(state_type=StateType.RUNNING))
    return Sum("total_run_seconds") + Coalesce(still, 0.0)


def total_delay(now: datetime) -> Combinable:
    """Seconds between the runs' expected and real start; up to `now` where one should have started and still may."""
    late = Q(start_delay_seconds__isnull=True, expected_start_time__lt=now) & ~Q(state_type__in=sorted(TERMINAL))
    waited = Sum(SecondsSince("expected_start_time", now), filter=late)
    return Coalesce(Sum("start_delay_seconds"), 0.0) + Coalesce(waited, 0.0)


def lateness(rows: QuerySet[Any]) -> float | None:
    """The mean of the runs' `estimated_start_time_delta` in seconds; None when there are no runs."""
    found = rows.aggregate(delay=total_delay(timezone.now()), number=Count("*"))
    return found["delay"] / found["number"] if found["number"] else None


def spans(start: datetime, end: datetime, interval: timedelta) -> list[tuple[datetime, datetime]]:
    """The spans from `start` to `end`; all are whole, at most 500 of them."""
    count = min(MAX_BUCKETS, math.ceil((end - start) / interval)) if end > start else 0
    return [(start + interval * i, start + interval * (i + 1)) for i in range(count)]


def history(model: type[Model], matching: Matching, start: datetime, end: datetime, interval: timedelta) -> list[dict[str, Any]]:
    """One entry a span: how many runs were expected in it, per current state, with their run time and lateness.

    `matching` keeps the rows of `model` that count. One query: each span is a range of the index on the expected start,
    grouped by itself.
    """
    asked = spans(start, end, interval)
    counted = states_per_span(model, matching, asked) if asked else {}
    return [
        {"interval_start": begin, "interval_end": finish, "states": counted.get(i, [])} for i, (begin, finish) in enumerate(asked)
    ]


def states_per_span(
    model: type[Model], matching: Matching, asked: list[tuple[datetime, datetime]]
) -> dict[int, list[dict[str, Any]]]:
    now = timezone.now()
    # These two bounds come first, before any that the client sets: of two bounds on one column SQLite takes the first to
    # search the index with, and the client's would have it read the whole window for every span.
    in_span = model._default_manager.filter(
        expected_start_time__gte=RawSQL("span.begin", ()), expected_start_time__lt=RawSQL("span.finish", ())
    )
    groups = (
        matching(in_span)
        .order_by("state_type", "state_name")
        .values("state_type", "state_name")
        .annotate(number=Count("*"), run_time=total_run_time(now), delay=total_delay(now))
        .values_list("state_type", "state_name", "number", "run_time", "delay")
    )
    try:
        sql, params = groups.query.sql_with_params()
    except EmptyResultSet:
        return {}
    cells = "state_type, state_name, number, run_time, delay"
    array = f"json_agg(json_build_array({cells}))" if is_postgresql() else f"json_group_array(json_array({cells}))"
    groups_as_json = f"(SELECT {array} FROM ({sql}) AS states)"  # noqa: S608
    stored = connection.ops.adapt_datetimefield_value
    sent = json.dumps([[i, str(stored(begin)), str(stored(finish))] for i, (begin, finish) in enumerate(asked)])
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT span.place, {groups_as_json} FROM {rows_of_json(SPAN, 'span')}", [*params, sent])  # noqa: S608
        found = cursor.fetchall()
    return {place: [state(*group) for group in decoded(groups)] for place, groups in found}


def decoded(groups: Any) -> Any:
    """An array of JSON as the driver gives it: text from SQLite, null where nothing was found."""
    return json.loads(groups) if isinstance(groups, str) else groups or []


def state(type: str, name: str, number: int, run_time: float, delay: float) -> dict[str, Any]:
    return {
        "state_type": type,
        "state_name": name,
        "count_runs": number,
        "sum_estimated_run_time": run_time,
        "sum_estimated_lateness": delay,
    }

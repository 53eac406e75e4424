"""Runs counted per span of time and state (contract: runs_states_orchestration.md, section 2, `/history`)."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from flowruns.states import TERMINAL, StateType

MAX_BUCKETS = 500


def buckets(start: datetime, end: datetime, interval: timedelta) -> list[datetime]:
    """The starts of the spans from `start` to `end`; all are whole, at most 500 of them."""
    if end <= start:
        return []
    count = min(MAX_BUCKETS, math.ceil((end - start) / interval))
    return [start + interval * i for i in range(count)]


def history(rows: QuerySet[Any], start: datetime, end: datetime, interval: timedelta) -> list[dict[str, Any]]:
    """One entry a span: how many runs were expected in it, per current state, with their run time and lateness.

    One query. The rows come raw and are summed here: the span of a run is arithmetic that neither database has an index for.
    """
    starts = buckets(start, end, interval)
    spans: list[dict[tuple[str, str], list[float]]] = [{} for _ in starts]
    if starts:
        now = timezone.now()
        seen = rows.filter(expected_start_time__gte=starts[0], expected_start_time__lt=starts[-1] + interval)
        columns = (
            "expected_start_time",
            "state_type",
            "state_name",
            "total_run_seconds",
            "state_timestamp",
            "start_delay_seconds",
        )
        seconds = interval.total_seconds()
        for expected, type_, name, total, since, delay in seen.values_list(*columns).iterator(chunk_size=5_000):
            if type_ == StateType.RUNNING:
                total += (now - since).total_seconds()
            if delay is None:
                delay = (now - expected).total_seconds() if type_ not in TERMINAL and expected < now else 0.0
            group = spans[int((expected - start).total_seconds() / seconds)].setdefault((type_, name), [0, 0.0, 0.0])
            group[0] += 1
            group[1] += max(total, 0.0)
            group[2] += delay
    return [
        {
            "interval_start": begin,
            "interval_end": begin + interval,
            "states": [
                {
                    "state_type": type_,
                    "state_name": name,
                    "count_runs": int(count),
                    "sum_estimated_run_time": run_time,
                    "sum_estimated_lateness": lateness,
                }
                for (type_, name), (count, run_time, lateness) in sorted(span.items(), key=str)
            ],
        }
        for begin, span in zip(starts, spans, strict=True)
    ]


def lateness(rows: QuerySet[Any]) -> float | None:
    """The mean of the runs' `estimated_start_time_delta` in seconds; None when there are no runs."""
    now = timezone.now()
    total, count = 0.0, 0
    columns = ("start_delay_seconds", "state_type", "expected_start_time")
    for delay, type_, expected in rows.values_list(*columns).iterator(chunk_size=5_000):
        count += 1
        if delay is not None:
            total += delay
        elif expected and type_ not in TERMINAL and expected < now:
            total += (now - expected).total_seconds()
    return total / count if count else None

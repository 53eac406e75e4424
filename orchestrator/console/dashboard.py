"""The admin's first page: the last day at a glance, what comes next, and what nobody works on."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.models.functions import TruncHour
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timeuntil

from deployments.models import DeploymentSchedule
from flowruns.models import FlowRun
from flowruns.states import StateType
from orchestrator.core.modeladmin import link, link_to_list
from workqueues.models import Worker, WorkPool

HOURS = 24
SHOWN = 8
COLOURS = {
    "COMPLETED": "#22c55e",
    "FAILED": "#ef4444",
    "CRASHED": "#f97316",
    "CANCELLED": "#a8a29e",
    "RUNNING": "#3b82f6",
    "PENDING": "#93c5fd",
    "SCHEDULED": "#facc15",
    "PAUSED": "#c084fc",
    "CANCELLING": "#78716c",
}


def chart(runs: QuerySet[FlowRun], now: datetime) -> dict[str, Any]:
    """Runs of the last day, per hour of their expected start and per state, as Chart.js data. One query."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    hours = [first + timedelta(hours=i) for i in range(HOURS)]
    counted = (
        runs.filter(expected_start_time__gte=first, expected_start_time__lte=now)
        .annotate(hour=TruncHour("expected_start_time"))
        .order_by()
        .values_list("hour", "state_type")
        .annotate(count=Count("pk"))
    )
    counts = {(hour, type_): count for hour, type_, count in counted}
    states = [type_ for type_ in COLOURS if any(state == type_ for _, state in counts)]
    return {
        "labels": [hour.strftime("%H:%M") for hour in hours],
        "datasets": [
            {
                "label": type_.capitalize(),
                "data": [counts.get((hour, type_), 0) for hour in hours],
                "backgroundColor": COLOURS[type_],
                "stack": "runs",
                "displayYAxis": True,
            }
            for type_ in states
        ],
    }


def next_runs(now: datetime) -> dict[str, Any]:
    runs = (
        FlowRun.objects.scheduled()
        .filter(next_scheduled_start_time__gte=now)
        .select_related("flow", "deployment", "work_queue")
        .defer("parameters", "context", "labels")
        .order_by("next_scheduled_start_time")[:SHOWN]
    )
    rows = [[until(run.next_scheduled_start_time or now, now), link(run), link(run.flow), link(run.deployment)] for run in runs]
    return {"headers": ["Starts", "Run", "Flow", "Deployment"], "rows": rows}


def until(moment: datetime, now: datetime) -> str:
    """How long until a moment, in the largest units that tell something."""
    seconds = (moment - now).total_seconds()
    return f"in {seconds:.0f} s" if seconds < 60 else f"in {timeuntil(moment, now)}"


def idle_pools() -> dict[str, Any]:
    """Pools that wait for workers: not paused, and no worker online."""
    online = Worker.objects.filter(work_pool=OuterRef("pk"), status="ONLINE")
    pools = WorkPool.objects.filter(~Exists(online), is_paused=False).order_by("name")[:SHOWN]
    return {"headers": ["Pool", "Type"], "rows": [[link(pool), pool.type] for pool in pools]}


def broken_schedules() -> dict[str, Any]:
    schedules = DeploymentSchedule.objects.exclude(error="").select_related("deployment").order_by("-updated")[:SHOWN]
    rows = [[link(schedule.deployment), link(schedule), schedule.error[:120]] for schedule in schedules]
    return {"headers": ["Deployment", "Schedule", "Why it is put aside"], "rows": rows}


def figures(now: datetime) -> list[dict[str, Any]]:
    """The questions with their numbers, each a link to the rows behind it."""
    runs = FlowRun.objects.all()
    late = runs.scheduled().filter(next_scheduled_start_time__lt=now - settings.LATE_AFTER)
    failed = runs.filter(state_type__in=(StateType.FAILED, StateType.CRASHED), end_time__gte=now - timedelta(days=1))
    running = runs.filter(state_type=StateType.RUNNING)
    waiting = runs.filter(state_type__in=(StateType.PENDING, StateType.CANCELLING))
    stuck = waiting.filter(state_timestamp__lt=now - timedelta(minutes=10))
    return [
        {
            "title": "Running",
            "value": running.count(),
            "link": link_to_list(FlowRun, "now", state_type__exact="RUNNING"),
        },
        {"title": "Late", "value": late.count(), "link": link_to_list(FlowRun, "should have started", question="late")},
        {"title": "Stuck", "value": stuck.count(), "link": link_to_list(FlowRun, "for ten minutes", question="stuck")},
        {"title": "Failing", "value": failed.count(), "link": link_to_list(FlowRun, "in a day", question="failing")},
    ]


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the index template shows, for a user who may see runs."""
    if not request.user.has_perm("flowruns.view_flowrun"):
        return context
    now = timezone.now()
    context.update(
        figures=figures(now),
        runs_chart=json.dumps(chart(FlowRun.objects.all(), now)),
        chart_options=json.dumps(
            {
                "scales": {"x": {"stacked": True}, "y": {"stacked": True, "beginAtZero": True}},
                "maintainAspectRatio": False,
            }
        ),
        next_runs=next_runs(now),
        idle_pools=idle_pools(),
        broken_schedules=broken_schedules(),
    )
    return context

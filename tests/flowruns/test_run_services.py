"""Services that clean up after runs; each finds a set by one look and touches only what is still as it was found."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flowruns.models import FlowRun, FlowRunState, Log, TaskRun
from flowruns.services import CancellationCleanup, PauseExpirations, RunRetention
from tests.api import post
from tests.factories import deployment, flow_run, task_run

pytestmark = pytest.mark.django_db


def state_of(run: FlowRun | TaskRun) -> tuple[str | None, str | None]:
    run.refresh_from_db()
    return run.state_type, run.state.message if run.state else None


def paused(minutes: float) -> FlowRun:
    run = flow_run("PAUSED")
    timeout = (timezone.now() + timedelta(minutes=minutes)).isoformat()
    FlowRunState.objects.filter(run=run).update(details={"pause_timeout": timeout})
    return run


def test_a_pause_that_lasted_too_long_ends_in_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowruns.services.PAGE", 2)
    over = [paused(-1) for _ in range(3)]
    waiting, endless = paused(5), flow_run("PAUSED")
    PauseExpirations().poll()
    assert [state_of(run) for run in over] == [("FAILED", "The flow was paused and never resumed.")] * 3
    assert [state_of(run)[0] for run in (waiting, endless)] == ["PAUSED", "PAUSED"]


def test_what_a_cancelled_run_left_behind_is_cancelled() -> None:
    parent = flow_run("CANCELLED")
    FlowRun.objects.filter(pk=parent.pk).update(end_time=timezone.now())
    alive, ended = task_run("RUNNING", flow_run=parent), task_run("COMPLETED", flow_run=parent)
    here = flow_run("RUNNING", parent_task_run=alive)
    there = flow_run("RUNNING", parent_task_run=task_run("RUNNING", flow_run=parent), deployment=deployment())
    stranger = task_run("RUNNING", flow_run=flow_run("RUNNING"))
    CancellationCleanup().poll()
    message = "The parent flow run was cancelled."
    assert state_of(alive) == ("CANCELLED", message)
    assert state_of(ended)[0] == "COMPLETED"
    assert state_of(here) == ("CANCELLED", message)
    assert state_of(there) == ("CANCELLING", message)
    assert state_of(stranger)[0] == "RUNNING"


def test_a_cancellation_that_nobody_confirms_is_one_after_a_while() -> None:
    """F11."""
    long, short = (flow_run("CANCELLING", at=timezone.now() - timedelta(minutes=minutes)) for minutes in (6, 1))
    CancellationCleanup().poll()
    assert state_of(long) == ("CANCELLED", "Flow run cancellation timed out; marked this flow run as Cancelled.")
    assert state_of(short)[0] == "CANCELLING"


@pytest.mark.parametrize("service", [PauseExpirations, CancellationCleanup, RunRetention])
def test_a_look_at_nothing_writes_nothing(service: Any) -> None:
    flow_run("RUNNING")
    with CaptureQueriesContext(connection) as queries:
        assert service().poll() == service.interval_seconds
    assert all(query["sql"].startswith("SELECT") for query in queries)


def test_runs_that_ended_long_ago_go_where_that_is_asked_for(settings: Any) -> None:
    old, young = flow_run("COMPLETED"), flow_run("COMPLETED")
    child = flow_run("COMPLETED", parent_task_run=task_run("COMPLETED", flow_run=young))
    FlowRun.objects.filter(pk__in=[old.pk, child.pk]).update(end_time=timezone.now() - timedelta(days=91))
    at = timezone.now().isoformat()
    post("/logs/", [{"name": "n", "level": 20, "message": "m", "timestamp": at, "flow_run_id": str(old.pk)}])
    RunRetention().poll()
    assert FlowRun.objects.filter(pk=old.pk).exists()
    settings.VACUUM_ENABLED = ["events", "flow_runs"]
    RunRetention().poll()
    assert set(FlowRun.objects.values_list("pk", flat=True)) == {young.pk, child.pk}
    assert not FlowRunState.objects.filter(run=old.pk).exists()
    assert not Log.objects.exists()

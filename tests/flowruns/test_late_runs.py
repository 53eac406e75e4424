"""Runs that should have started are marked late."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flowruns import services
from flowruns.services import LateRuns
from tests.factories import flow_run

pytestmark = pytest.mark.django_db


def test_a_run_is_late_some_seconds_after_its_time() -> None:
    now = timezone.now()
    late = flow_run("SCHEDULED", at=now - timedelta(seconds=20))
    due = flow_run("SCHEDULED", at=now - timedelta(seconds=5))
    retried = flow_run("SCHEDULED", "AwaitingRetry", at=now - timedelta(seconds=20))
    assert LateRuns().poll() == LateRuns.interval_seconds
    for run in (late, due, retried):
        run.refresh_from_db()
    assert [run.state_name for run in (late, due, retried)] == ["Late", "Scheduled", "AwaitingRetry"]
    assert late.next_scheduled_start_time == late.expected_start_time == now - timedelta(seconds=20)


def test_a_look_at_nothing_late_costs_one_query() -> None:
    flow_run("SCHEDULED")
    with CaptureQueriesContext(connection) as queries:
        LateRuns().poll()
    assert len(queries) == 1


def test_more_late_runs_than_a_batch_are_marked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "BATCH", 2)
    runs = [flow_run("SCHEDULED", at=timezone.now() - timedelta(minutes=1)) for _ in range(3)]
    assert LateRuns().poll() == 0
    assert LateRuns().poll() == LateRuns.interval_seconds
    for run in runs:
        run.refresh_from_db()
        assert run.state_name == "Late"

"""SQLite chooses its indexes by what the tables hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from flowruns.models import FlowRun
from orchestrator.core.databases import is_postgresql
from orchestrator.core.services import PlannerStatistics
from tests.factories import deployment, flow_run

pytestmark = pytest.mark.django_db


def plan_of_a_day() -> str:
    """How the database reads the runs of a day that belong to tagged deployments."""
    now = datetime.now(UTC)
    runs = FlowRun.objects.filter(
        effective_start__gte=now - timedelta(days=1),
        effective_start__lte=now,
        deployment_id__in=type(deployment()).objects.filter(tags__has_all=["team"]).values("pk"),
    )
    return runs.order_by("-effective_start")[:10].explain()


def test_a_window_of_runs_is_read_by_its_time_whatever_it_is_joined_with() -> None:
    if is_postgresql():
        pytest.skip("PostgreSQL keeps statistics by itself")
    owner = deployment(tags=["team"])
    now = datetime.now(UTC)
    for hours in range(300):
        flow_run("COMPLETED", at=now - timedelta(hours=hours), deployment=owner, flow=owner.flow)
    assert PlannerStatistics().poll() == 600
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM sqlite_stat1 WHERE tbl = 'flowruns_flowrun'")
        assert cursor.fetchone()[0] > 5
    assert "flow_run_start" in plan_of_a_day()

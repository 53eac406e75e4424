"""Runs counted per span of time and state, and their mean lateness (runs_states_orchestration.md, section 2)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tests.factories import flow, flow_run, task_run

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def post(client: Client, path: str, **body: Any) -> Any:
    response = client.post(f"/api/{path}", json.dumps(body, default=str), content_type="application/json")
    assert response.status_code == 200, response.content
    return response.json()


def history(client: Client, kind: str = "flow_runs", hours: int = 3, **filters: Any) -> list[list[tuple[str, str, int]]]:
    """The state type, state name and number of each group of each hour."""
    body = {"history_start": DAY, "history_end": DAY + hours * HOUR, "history_interval_seconds": 3600, **filters}
    spans = post(client, f"{kind}/history", **body)
    assert [datetime.fromisoformat(span["interval_start"]) for span in spans] == [DAY + i * HOUR for i in range(hours)]
    assert all(
        datetime.fromisoformat(span["interval_end"]) - datetime.fromisoformat(span["interval_start"]) == HOUR for span in spans
    )
    return [[(state["state_type"], state["state_name"], state["count_runs"]) for state in span["states"]] for span in spans]


def test_runs_are_counted_in_the_hour_they_were_expected_in(client: Client) -> None:
    for minutes in (0, 59):
        flow_run("COMPLETED", at=DAY + timedelta(minutes=minutes))
    flow_run("COMPLETED", state_name="Cached", at=DAY)
    flow_run("FAILED", at=DAY + timedelta(hours=1, microseconds=1))
    flow_run("FAILED", at=DAY + timedelta(hours=3))
    flow_run("FAILED", at=DAY - timedelta(microseconds=1))
    assert history(client) == [[("COMPLETED", "Cached", 1), ("COMPLETED", "Completed", 2)], [("FAILED", "Failed", 1)], []]


def test_filters_choose_the_runs_that_count(client: Client) -> None:
    wanted = flow("wanted")
    flow_run("COMPLETED", at=DAY, flow=wanted)
    flow_run("COMPLETED", at=DAY)
    flow_run("FAILED", at=DAY + HOUR, flow=wanted)
    one = [("COMPLETED", "Completed", 1)]
    assert history(client, flows={"name": {"any_": ["wanted"]}}) == [one, [("FAILED", "Failed", 1)], []]
    until = {"expected_start_time": {"before_": DAY}}
    assert history(client, flows={"name": {"any_": ["wanted"]}}, flow_runs=until) == [one, [], []]
    assert history(client, flow_runs={"id": {"any_": []}}) == [[], [], []]


def test_task_runs_have_a_history_too(client: Client) -> None:
    task_run("COMPLETED", at=DAY)
    assert history(client, "task_runs") == [[("COMPLETED", "Completed", 1)], [], []]


def test_times_are_summed_per_state(client: Client) -> None:
    now = datetime.now(UTC)
    flow_run("COMPLETED", at=now - HOUR, total_run_seconds=4.5, start_delay_seconds=2.0)
    flow_run("COMPLETED", at=now - HOUR, total_run_seconds=1.5, start_delay_seconds=1.0)
    flow_run("RUNNING", at=now - HOUR, total_run_seconds=10.0)
    flow_run("SCHEDULED", at=now - HOUR)
    body = {"history_start": now - 2 * HOUR, "history_end": now, "history_interval_seconds": 7200}
    (span,) = post(client, "flow_runs/history", **body)
    seen = {state["state_type"]: (state["sum_estimated_run_time"], state["sum_estimated_lateness"]) for state in span["states"]}
    assert seen == {
        "COMPLETED": (6.0, 3.0),
        "RUNNING": (pytest.approx(3610, abs=30), 0.0),
        "SCHEDULED": (0.0, pytest.approx(3600, abs=30)),
    }


def test_a_history_is_one_query_and_at_most_500_spans(client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    body = {"history_start": DAY, "history_end": DAY + timedelta(days=365), "history_interval_seconds": 60}
    with django_assert_num_queries(1):
        assert len(post(client, "flow_runs/history", **body)) == 500


def test_a_history_of_less_than_a_second_is_refused(client: Client) -> None:
    body = {"history_start": str(DAY), "history_end": str(DAY + HOUR), "history_interval_seconds": 0.5}
    response = client.post("/api/flow_runs/history", json.dumps(body), content_type="application/json")
    assert (response.status_code, response.json()) == (422, {"detail": "History interval must not be less than 1 second."})


def test_lateness_is_the_mean_over_the_runs_that_match(client: Client) -> None:
    assert post(client, "flow_runs/lateness") is None
    now = datetime.now(UTC)
    flow_run("COMPLETED", at=now - HOUR, start_delay_seconds=30.0)
    assert post(client, "flow_runs/lateness") == 30.0
    flow_run("SCHEDULED", at=now - timedelta(seconds=90))
    assert post(client, "flow_runs/lateness") == pytest.approx(60, abs=15)
    flow_run("SCHEDULED", at=now + HOUR)
    assert post(client, "flow_runs/lateness") == pytest.approx(40, abs=15)
    flow_run("CANCELLED", at=now - HOUR, start_delay_seconds=None)
    assert post(client, "flow_runs/lateness") == pytest.approx(30, abs=15)
    assert post(client, "flow_runs/lateness", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}}) == 30.0

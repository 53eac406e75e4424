"""The history of a run, and what a move costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flowruns.models import FlowRun
from flowruns.orchestration import bookkeeping
from flowruns.orchestration.engine import propose, value_of
from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType
from tests.factories import flow_run

pytestmark = pytest.mark.django_db
PATH = ["PENDING", "RUNNING", "PAUSED", "RUNNING", "FAILED", "RUNNING", "COMPLETED"]
FOLLOWING = [
    "state_type",
    "state_name",
    "state_timestamp",
    "start_time",
    "end_time",
    "total_run_seconds",
    "expected_start_time",
    "next_scheduled_start_time",
    "run_count",
    "start_delay_seconds",
]


def walked() -> FlowRun:
    run = flow_run("SCHEDULED")
    for type_ in PATH:
        assert propose(run.pk, ProposedState(StateType(type_))).status == "ACCEPT"
    run.refresh_from_db()
    return run


def test_history_is_in_order_and_no_two_states_share_a_time() -> None:
    run = walked()
    history = list(run.states.order_by("timestamp"))
    assert [state.type for state in history] == ["SCHEDULED", *PATH]
    assert len({state.timestamp for state in history}) == len(history)
    assert history[-1].pk == run.state_id


def test_columns_are_what_history_implies() -> None:
    run = walked()
    replayed = FlowRun()
    for row in run.states.order_by("timestamp"):
        resuming = replayed.state_type == "PAUSED"
        for name, value in bookkeeping.derived(replayed, value_of(row), row.timestamp).items():
            setattr(replayed, name, value)
        if resuming:
            replayed.empirical_policy = {"resuming": True}
    for name in FOLLOWING:
        assert getattr(run, name) == getattr(replayed, name), name


def test_a_state_is_later_than_the_one_before_it_even_when_clocks_disagree() -> None:
    ahead = timezone.now() + timedelta(minutes=5)
    run = flow_run("PENDING", at=ahead)
    outcome = propose(run.pk, ProposedState(StateType.RUNNING))
    assert outcome.state is not None
    assert outcome.state["timestamp"] == ahead + timedelta(microseconds=1)


def test_a_move_costs_three_statements_and_its_event_two() -> None:
    run = flow_run("PENDING")
    with CaptureQueriesContext(connection) as queries:
        propose(run.pk, ProposedState(StateType.RUNNING))
    kinds = [query["sql"].split()[0] for query in queries]
    assert kinds == ["SELECT", "INSERT", "UPDATE", "SELECT", "INSERT"]


def test_a_refused_move_costs_one_statement() -> None:
    run = flow_run("CANCELLING")
    with CaptureQueriesContext(connection) as queries:
        propose(run.pk, ProposedState(StateType.RUNNING))
    assert len(queries) == 1

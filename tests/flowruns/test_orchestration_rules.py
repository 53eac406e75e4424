"""What the rules protect: repeated requests, results, pauses, retries, times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from flowruns.models import FlowRun, TaskRun
from flowruns.orchestration import engine
from flowruns.orchestration.proposal import ProposedState, iso, read_time
from flowruns.orchestration.verdicts import Outcome
from flowruns.states import StateType
from orchestrator.core.errors import Missing
from tests.factories import deployment, flow_run, task_run

pytestmark = pytest.mark.django_db
LATER = "2099-01-01T00:00:00Z"


def propose(run: FlowRun, type_: str, name: str = "", *, force: bool = False, data: Any = None, **details: Any) -> Outcome:
    outcome = engine.propose(run.pk, ProposedState(StateType(type_), name, data=data, details=details), force=force)
    run.refresh_from_db()
    return outcome


def propose_task(run: TaskRun, type_: str, **details: Any) -> Outcome:
    outcome = engine.propose_task(run.pk, ProposedState(StateType(type_), details=details))
    run.refresh_from_db()
    return outcome


def reason(outcome: Outcome) -> str:
    return str(outcome.details.get("reason"))


def test_an_unknown_run_is_missing() -> None:
    key = uuid4()
    with pytest.raises(Missing, match=f"Flow run with id {key} not found"):
        engine.propose(key, ProposedState(StateType.RUNNING))


def test_a_transition_sent_twice_is_made_once() -> None:
    run, token = flow_run("PENDING"), str(uuid4())
    assert propose(run, "RUNNING", transition_id=token).status == "ACCEPT"
    again = propose(run, "RUNNING", transition_id=token)
    assert (again.status, again.written, run.run_count) == ("REJECT", False, 1)
    assert reason(again) == "This run has already made this state transition."


def test_two_transitions_without_a_token_are_two() -> None:
    run = flow_run("PENDING")
    assert [propose(run, "RUNNING").status for _ in range(2)] == ["ACCEPT", "ACCEPT"]
    assert run.run_count == 2


@pytest.mark.parametrize("force", [False, True])
def test_a_kept_result_is_not_overwritten_by_a_completion_without_one(force: bool) -> None:
    run = flow_run("RUNNING")
    propose(run, "COMPLETED", data={"type": "reference"})
    outcome = propose(run, "COMPLETED", force=force)
    assert (outcome.status, outcome.written) == ("REJECT", False)
    assert propose(run, "COMPLETED", data={"type": "reference"}, force=force).status == "ACCEPT"


def test_a_completed_run_with_a_kept_result_does_not_run_again() -> None:
    run = flow_run("RUNNING")
    propose(run, "COMPLETED", data={"type": "reference"})
    assert reason(propose(run, "PENDING")) == "Run is already COMPLETED."


def test_a_completed_run_without_a_result_may_run_again() -> None:
    run = flow_run("COMPLETED")
    assert propose(run, "RUNNING").status == "ACCEPT"
    assert (run.run_count, run.end_time) == (2, None)


def test_rescheduling_a_failed_run_forgets_its_pauses() -> None:
    run = flow_run("FAILED", deployment=deployment(), empirical_policy={"pause_keys": ["a"], "resuming": True})
    propose(run, "SCHEDULED", "AwaitingRetry")
    assert run.empirical_policy == {"pause_keys": [], "resuming": False, "retry_type": "reschedule"}


def test_a_refused_restart_leaves_the_policy_as_it_was() -> None:
    policy = {"pause_keys": ["a"], "resuming": False}
    run = flow_run("FAILED", empirical_policy=policy, deployment_id=uuid4())
    assert reason(propose(run, "PENDING")) == "Deployment not found."
    assert run.empirical_policy == policy


def test_a_scheduled_run_with_infrastructure_is_asked_to_stop() -> None:
    run = flow_run("SCHEDULED", infrastructure_pid="host:1")
    assert propose(run, "CANCELLING").status == "ACCEPT"


def test_a_suspended_run_is_cancelled_at_once() -> None:
    run = flow_run("RUNNING", deployment=deployment())
    propose(run, "PAUSED", "Suspended", pause_reschedule=True, pause_timeout=LATER)
    outcome = propose(run, "CANCELLING")
    assert (outcome.status, run.state_type) == ("REJECT", "CANCELLED")


def test_a_worker_reports_progress_under_other_names_and_keeps_the_scheduled_time() -> None:
    at = datetime(2020, 5, 1, 12, tzinfo=UTC)
    run = flow_run("SCHEDULED", at=at)
    propose(run, "PENDING")
    outcome = propose(run, "PENDING", "Submitting")
    assert outcome.status == "ACCEPT"
    assert outcome.state is not None
    assert read_time(outcome.state["state_details"]["scheduled_time"]) == at
    assert propose(run, "PENDING", "Submitting").status == "ABORT"


def test_a_run_does_not_start_before_its_time() -> None:
    run = flow_run("SCHEDULED", at=timezone.now() + timedelta(seconds=90))
    propose(run, "PENDING")
    outcome = propose(run, "RUNNING")
    assert outcome.status == "WAIT"
    assert outcome.details["type"] == "wait_details"
    assert 85 <= outcome.details["delay_seconds"] <= 90
    assert (outcome.written, run.state_type) == (False, "PENDING")


def test_only_scheduled_runs_are_marked_late_and_only_once() -> None:
    run = flow_run("PENDING")
    assert reason(propose(run, "SCHEDULED", "Late")) == "Only scheduled flows can be marked late."
    waiting = flow_run("SCHEDULED")
    assert propose(waiting, "SCHEDULED", "Late").status == "ACCEPT"
    assert reason(propose(waiting, "SCHEDULED", "Late")) == "This flow run is already marked late."


def test_a_pause_fires_once() -> None:
    run = flow_run("RUNNING")
    assert propose(run, "PAUSED", pause_key="a", pause_timeout=LATER).status == "ACCEPT"
    assert run.empirical_policy["pause_keys"] == ["a"]
    propose(run, "RUNNING")
    assert reason(propose(run, "PAUSED", pause_key="a")) == "This pause has already fired."
    assert propose(run, "PAUSED", pause_key="b").status == "ACCEPT"


@pytest.mark.parametrize(
    ("columns", "refusal"),
    [({}, "Cannot suspend flows without a deployment."), ({"parent": True}, "Cannot suspend subflows.")],
)
def test_a_run_that_could_not_come_back_is_not_suspended(columns: dict[str, bool], refusal: str) -> None:
    parent = {"parent_task_run": task_run(flow_run=flow_run("RUNNING"))} if columns else {}
    outcome = propose(flow_run("RUNNING", **parent), "PAUSED", "Suspended", pause_reschedule=True)
    assert (outcome.status, reason(outcome)) == ("ABORT", refusal)


def test_a_resumed_run_counts_as_the_same_try() -> None:
    run = flow_run("RUNNING", deployment=deployment())
    propose(run, "PAUSED", "Suspended", pause_reschedule=True, pause_timeout=LATER)
    propose(run, "SCHEDULED", "Resuming")
    assert run.empirical_policy["resuming"] is True
    propose(run, "PENDING")
    propose(run, "RUNNING")
    assert (run.run_count, run.empirical_policy["resuming"]) == (1, False)


def test_a_refused_way_out_of_a_pause_still_marks_the_run_as_resuming() -> None:
    run = flow_run("RUNNING")
    propose(run, "PAUSED", pause_timeout=LATER)
    assert propose(run, "PENDING").written is False
    assert run.empirical_policy["resuming"] is True


def test_a_pause_that_timed_out_has_failed() -> None:
    run = flow_run("RUNNING")
    propose(run, "PAUSED", pause_timeout="2001-01-01T00:00:00Z")
    outcome = propose(run, "RUNNING")
    assert (outcome.status, run.state_type) == ("REJECT", "FAILED")
    assert outcome.state is not None
    assert outcome.state["message"] == "The flow was running and never resumed."


def test_a_pause_that_timed_out_can_be_cancelled() -> None:
    run = flow_run("RUNNING")
    propose(run, "PAUSED", pause_timeout="2001-01-01T00:00:00Z")
    assert propose(run, "CANCELLING").status == "ACCEPT"


def test_a_failed_run_is_tried_again_as_often_as_its_policy_says() -> None:
    run = flow_run("PENDING", empirical_policy={"retries": 1, "retry_delay": 60})
    propose(run, "RUNNING")
    again = propose(run, "FAILED")
    assert (again.status, run.state_name, reason(again)) == ("REJECT", "AwaitingRetry", "Retrying")
    assert run.empirical_policy["retry_type"] == "in_process"
    assert run.next_scheduled_start_time is not None
    assert 55 < (run.next_scheduled_start_time - timezone.now()).total_seconds() <= 60
    propose(run, "RUNNING", force=True)
    assert (propose(run, "FAILED").status, run.state_type) == ("ACCEPT", "FAILED")
    assert run.empirical_policy["retry_type"] is None


@pytest.mark.parametrize("delay", [[], [10, 20], 1e300, -5])
def test_a_strange_retry_delay_does_not_break_a_run(delay: Any) -> None:
    run = flow_run("RUNNING", empirical_policy={"retries": 3, "retry_delay": delay})
    assert propose(run, "FAILED").status == "REJECT"
    assert run.state_name == "AwaitingRetry"


def test_a_task_is_tried_again_with_the_delay_of_its_try() -> None:
    run = task_run("PENDING", empirical_policy={"retries": 2, "retry_delay": [10, 1000]}, flow_run=flow_run("RUNNING"))
    propose_task(run, "RUNNING")
    propose_task(run, "FAILED")
    assert run.state_name == "AwaitingRetry"
    assert run.next_scheduled_start_time is not None
    assert (run.next_scheduled_start_time - timezone.now()).total_seconds() <= 10
    assert propose_task(run, "RUNNING").status == "WAIT"


def test_a_task_that_must_not_be_tried_again_fails() -> None:
    run = task_run("RUNNING", empirical_policy={"retries": 2}, flow_run=flow_run("RUNNING"))
    assert (propose_task(run, "FAILED", retriable=False).status, run.state_type) == ("ACCEPT", "FAILED")


def test_a_task_starts_only_inside_a_running_flow() -> None:
    paused, pending = flow_run("PAUSED"), flow_run("PENDING")
    held = task_run("PENDING", flow_run=paused)
    outcome = propose_task(held, "RUNNING")
    assert (outcome.status, held.state_name) == ("REJECT", "NotReady")
    assert str(paused.pk) in reason(outcome)
    refused = propose_task(task_run("PENDING", flow_run=pending), "RUNNING")
    assert (refused.status, refused.written) == ("ABORT", False)


def test_a_restarted_task_that_is_held_back_keeps_its_count() -> None:
    run = task_run("FAILED", flow_run=flow_run("PAUSED"), run_count=3)
    propose_task(run, "RUNNING")
    assert (run.state_type, run.run_count) == ("PAUSED", 3)


def test_a_restarted_task_counts_from_the_start() -> None:
    run = task_run("FAILED", flow_run=flow_run("RUNNING", run_count=4), run_count=3)
    propose_task(run, "RUNNING")
    assert (run.state_name, run.run_count, run.flow_run_run_count) == ("Retrying", 1, 4)


def test_the_task_that_stands_for_a_subflow_follows_it() -> None:
    wrapper = task_run("PENDING", flow_run=flow_run("RUNNING"))
    subflow = flow_run("PENDING", parent_task_run=wrapper)
    outcome = propose(subflow, "RUNNING")
    wrapper.refresh_from_db()
    assert wrapper.state_type == "RUNNING"
    assert wrapper.state.details["child_flow_run_id"] == str(subflow.pk)
    assert outcome.state is not None
    assert outcome.state["state_details"]["task_run_id"] == str(wrapper.pk)


def test_a_time_in_the_details_keeps_its_offset() -> None:
    run = flow_run("PENDING", deployment=deployment())
    outcome = propose(run, "SCHEDULED", scheduled_time="2030-01-01T00:00:00+02:00")
    assert outcome.state is not None
    assert outcome.state["state_details"]["scheduled_time"] == "2030-01-01T00:00:00+02:00"
    assert run.next_scheduled_start_time == datetime(2029, 12, 31, 22, tzinfo=UTC)
    assert iso(run.next_scheduled_start_time) == "2029-12-31T22:00:00Z"


def test_a_first_state_sets_the_columns_of_a_new_run() -> None:
    made = flow_run("PENDING")
    run = FlowRun(id=uuid4(), flow=made.flow)
    state = engine.initial_state(run, ProposedState(StateType.SCHEDULED, details={"scheduled_time": LATER}))
    run.save(force_insert=True)
    state.save(force_insert=True)
    run.refresh_from_db()
    assert (run.state_type, run.state_name, run.state_id) == ("SCHEDULED", "Scheduled", state.pk)
    assert run.expected_start_time == run.next_scheduled_start_time == datetime(2099, 1, 1, tzinfo=UTC)
    assert state.details["flow_run_id"] == str(run.pk)

"""What the server answers to a proposed state."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from flowruns.models import FlowRun
from flowruns.orchestration import engine, policies
from flowruns.orchestration.proposal import ProposedState, iso
from flowruns.states import StateType
from orchestrator.concurrency.models import ConcurrencyLimit, Lease
from tests.factories import deployment, flow, flow_run, task_run

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "orchestration.md"


def propose(run: FlowRun, type_: str, name: str = "", **more: Any) -> dict[str, Any]:
    force = more.pop("force", False)
    return engine.propose(run.pk, ProposedState(StateType(type_), name, **more), force=force).body()


def limited(limit: int, strategy: str = "ENQUEUE") -> Any:
    row = ConcurrencyLimit.objects.create(name=f"limit-{limit}-{strategy}", limit=limit)
    return deployment(concurrency_limit=row, concurrency_options={"collision_strategy": strategy})


@pytest.mark.django_db
def test_a_run_goes_from_scheduled_to_completed_and_its_columns_follow() -> None:
    run = flow_run("SCHEDULED", at=timezone.now() - timedelta(minutes=1))
    for type_ in ("PENDING", "RUNNING", "COMPLETED"):
        assert propose(run, type_)["status"] == "ACCEPT"
    run.refresh_from_db()
    history = list(run.states.order_by("timestamp").values_list("type", flat=True))
    assert history == ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]
    assert (run.state_type, run.state_name, run.run_count) == ("COMPLETED", "Completed", 1)
    assert run.start_time is not None and run.end_time is not None and run.end_time > run.start_time
    assert run.next_scheduled_start_time is None
    assert run.total_run_seconds == pytest.approx((run.end_time - run.start_time).total_seconds())
    assert run.start_delay_seconds == pytest.approx(60, abs=5)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("state", "proposed", "status", "type_after"),
    [
        ("PENDING", "PENDING", "ABORT", "PENDING"),
        ("RUNNING", "PENDING", "ABORT", "RUNNING"),
        ("CANCELLED", "PENDING", "ABORT", "CANCELLED"),
        ("COMPLETED", "CANCELLING", "ABORT", "COMPLETED"),
        ("FAILED", "CRASHED", "ABORT", "FAILED"),
        ("COMPLETED", "RUNNING", "ACCEPT", "RUNNING"),
        ("FAILED", "SCHEDULED", "ABORT", "FAILED"),
        ("CANCELLING", "RUNNING", "REJECT", "CANCELLING"),
        ("CANCELLING", "CANCELLED", "ACCEPT", "CANCELLED"),
        ("SCHEDULED", "CANCELLING", "REJECT", "CANCELLED"),
        ("SCHEDULED", "PAUSED", "REJECT", "SCHEDULED"),
        ("PAUSED", "PENDING", "REJECT", "PAUSED"),
        ("RUNNING", "PAUSED", "ACCEPT", "PAUSED"),
        ("PAUSED", "RUNNING", "ACCEPT", "RUNNING"),
        ("RUNNING", "FAILED", "ACCEPT", "FAILED"),
    ],
)
def test_the_core_policy(state: str, proposed: str, status: str, type_after: str) -> None:
    run = flow_run(state)
    assert propose(run, proposed)["status"] == status
    run.refresh_from_db()
    assert run.state_type == type_after


@pytest.mark.django_db
def test_a_forced_state_is_written_whatever_the_rules_say() -> None:
    run = flow_run("COMPLETED")
    assert propose(run, "CRASHED", force=True)["status"] == "ACCEPT"


@pytest.mark.django_db
def test_a_completed_run_with_a_kept_result_does_not_run_again() -> None:
    run = flow_run("RUNNING")
    propose(run, "COMPLETED", data={"type": "reference", "storage_key": "k"})
    answer = propose(run, "RUNNING")
    assert (answer["status"], answer["details"]["reason"]) == ("REJECT", "Run is already COMPLETED.")
    assert propose(run, "COMPLETED", force=True)["status"] == "REJECT"


@pytest.mark.django_db
def test_a_transition_sent_twice_is_made_once() -> None:
    run = flow_run("RUNNING")
    token = {"transition_id": "0ea4cd2c-0000-4000-8000-000000000001"}
    assert propose(run, "RUNNING", details=token)["status"] == "ACCEPT"
    answer = propose(run, "RUNNING", details=token)
    assert answer["details"]["reason"] == "This run has already made this state transition."


@pytest.mark.django_db
def test_a_run_waits_for_its_time() -> None:
    run = flow_run("SCHEDULED", at=timezone.now() + timedelta(hours=1))
    assert propose(run, "PENDING")["status"] == "ACCEPT"
    answer = propose(run, "RUNNING")
    assert answer["status"] == "WAIT"
    assert 3590 <= answer["details"]["delay_seconds"] <= 3600


@pytest.mark.django_db
def test_a_failed_run_with_retries_is_scheduled_again_in_its_process() -> None:
    run = flow_run("RUNNING", empirical_policy={"retries": 1, "retry_delay": 5})
    answer = propose(run, "FAILED", message="boom")
    assert (answer["status"], answer["state"]["name"], answer["state"]["message"]) == ("REJECT", "AwaitingRetry", "boom")
    propose(run, "RUNNING", force=True)
    assert propose(run, "FAILED")["status"] == "ACCEPT"


@pytest.mark.django_db
def test_a_pause_fires_once_and_times_out() -> None:
    run = flow_run("RUNNING")
    past = iso(timezone.now() - timedelta(seconds=1))
    propose(run, "PAUSED", details={"pause_key": "one", "pause_timeout": past})
    answer = propose(run, "RUNNING", "Resuming")
    assert (answer["status"], answer["state"]["type"]) == ("REJECT", "FAILED")
    other = flow_run("RUNNING", empirical_policy={"pause_keys": ["one"]})
    assert propose(other, "PAUSED", details={"pause_key": "one"})["status"] == "REJECT"


@pytest.mark.django_db
def test_a_resumed_run_does_not_count_another_try() -> None:
    run = flow_run("RUNNING", deployment=deployment())
    propose(run, "PAUSED", "Suspended", details={"pause_reschedule": True})
    for type_, name in (("SCHEDULED", "Resuming"), ("PENDING", ""), ("RUNNING", "")):
        assert propose(run, type_, name)["status"] == "ACCEPT"
    run.refresh_from_db()
    assert (run.run_count, run.empirical_policy["resuming"]) == (1, False)


@pytest.mark.django_db
def test_a_run_over_its_deployments_limit_waits_and_the_first_gives_its_slot_back() -> None:
    owner = limited(1)
    first, second = flow_run(deployment=owner), flow_run(deployment=owner)
    assert propose(first, "PENDING")["status"] == "ACCEPT"
    answer = propose(second, "PENDING")
    assert (answer["status"], answer["state"]["name"]) == ("REJECT", "AwaitingConcurrencySlot")
    assert Lease.objects.count() == 1
    propose(first, "RUNNING")
    propose(first, "COMPLETED")
    assert (Lease.objects.count(), ConcurrencyLimit.objects.get().active_slots) == (0, 0)
    assert propose(second, "PENDING")["status"] == "ACCEPT"


@pytest.mark.django_db
def test_a_run_over_the_limit_is_cancelled_where_the_deployment_says_so() -> None:
    owner = limited(1, "CANCEL_NEW")
    propose(flow_run(deployment=owner), "PENDING")
    answer = propose(flow_run(deployment=owner), "PENDING")
    assert (answer["state"]["type"], answer["state"]["message"]) == ("CANCELLED", "Deployment concurrency limit reached.")


@pytest.mark.django_db
def test_a_limit_of_none_at_all_aborts() -> None:
    assert propose(flow_run(deployment=limited(0)), "PENDING")["status"] == "ABORT"


@pytest.mark.django_db
def test_a_task_starts_only_while_its_flow_runs() -> None:
    waiting = task_run("PENDING", flow_run=flow_run("PENDING"))
    running = ProposedState(StateType.RUNNING)
    assert engine.propose_task(waiting.pk, running).status == "ABORT"
    ready = task_run("PENDING", flow_run=flow_run("RUNNING"))
    assert engine.propose_task(ready.pk, running).status == "ACCEPT"


@pytest.mark.django_db
def test_the_parent_task_run_follows_its_subflow() -> None:
    parent = task_run("RUNNING", flow_run=flow_run("RUNNING"))
    child = flow_run("RUNNING", parent_task_run=parent)
    propose(child, "COMPLETED")
    parent.refresh_from_db()
    assert parent.state is not None
    assert (parent.state_type, parent.state.details["child_flow_run_id"]) == ("COMPLETED", str(child.pk))


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_that_take_a_run_at_once_exactly_one_has_it() -> None:
    for _ in range(50):
        run = flow_run("SCHEDULED")
        answers: list[str] = []
        barrier = threading.Barrier(2)

        def take(run: FlowRun = run, answers: list[str] = answers, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                answers.append(propose(run, "PENDING")["status"])
            finally:
                connection.close()

        threads = [threading.Thread(target=take) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == ["ABORT", "ACCEPT"]


@pytest.mark.django_db
def test_the_wire_of_set_state(client: Client) -> None:
    run = flow_run("PENDING")
    path = f"/api/flow_runs/{run.pk}/set_state"
    body = {"state": {"type": "RUNNING", "state_details": {"unknown": 1}}, "force": False}
    answer = client.post(path, json.dumps(body), content_type="application/json")
    assert answer.status_code == 201
    assert set(answer.json()) == {"state", "status", "details"}
    assert answer.json()["state"]["state_details"]["flow_run_id"] == str(run.pk)
    refused = client.post(path, json.dumps({"state": {"type": "PENDING"}}), content_type="application/json")
    assert (refused.status_code, refused.json()["status"]) == (200, "ABORT")
    unknown = client.post(
        "/api/flow_runs/0ea4cd2c-0000-4000-8000-000000000001/set_state", json.dumps(body), content_type="application/json"
    )
    assert (unknown.status_code, list(unknown.json())) == (404, ["exception_message"])


@pytest.mark.django_db
def test_a_run_is_created_once_per_idempotency_key(client: Client) -> None:
    body = {"flow_id": str(flow().pk), "idempotency_key": "k", "state": {"type": "SCHEDULED"}, "name": None}
    answers = [client.post("/api/flow_runs/", json.dumps(body), content_type="application/json") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[0].json()["state"]["name"] == "Scheduled"


def test_every_rule_is_explained() -> None:
    text = DOCUMENT.read_text()
    lists = (policies.CORE_FLOW, policies.MINIMAL_FLOW, policies.LATE_MARKING, policies.CORE_TASK)
    missing = {rule.name for rules in lists for rule in rules if f"`{rule.name}`" not in text}
    assert missing == set()

"""A deployment's limit: who holds a slot, who waits, and when a slot comes back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from deployments.models import Deployment
from flowruns.models import FlowRun
from flowruns.orchestration import engine, policies
from flowruns.orchestration.proposal import ProposedState
from flowruns.orchestration.verdicts import Outcome
from flowruns.states import StateType
from orchestrator.concurrency import slots
from orchestrator.concurrency.models import ConcurrencyLimit, Lease
from tests.factories import deployment, flow_run

pytestmark = pytest.mark.django_db
CLIENT = "prefect/3.8.8 (API 0.8.4)"
OLD_CLIENT = "prefect/3.4.10 (API 0.8.4)"


def limited(limit: int = 1, **options: Any) -> Deployment:
    made = ConcurrencyLimit.objects.create(name=f"deployment:{uuid4()}", limit=limit)
    return deployment(concurrency_limit=made, concurrency_options=options or None)


def in_use(of: Deployment) -> int:
    return ConcurrencyLimit.objects.get(pk=of.concurrency_limit_id).active_slots


def propose(run: FlowRun, type_: str, name: str = "", *, force: bool = False, user_agent: str = CLIENT) -> Outcome:
    state = ProposedState(StateType(type_), name)
    outcome = engine.propose(run.pk, state, force=force, user_agent=user_agent)
    run.refresh_from_db()
    return outcome


def lease_of(run: FlowRun) -> str | None:
    assert run.state
    return run.state.details["deployment_concurrency_lease_id"]


def test_a_run_holds_a_slot_from_pending_to_its_end() -> None:
    of = limited()
    run = flow_run("SCHEDULED", deployment=of)
    propose(run, "PENDING")
    lease = Lease.objects.get(pk=lease_of(run))
    assert (in_use(of), lease.holder_type, lease.holder_id) == (1, "flow_run", run.pk)
    propose(run, "PENDING", "Submitting")
    propose(run, "RUNNING")
    assert lease_of(run) == str(lease.pk)
    assert in_use(of) == 1
    propose(run, "COMPLETED")
    assert (in_use(of), Lease.objects.count()) == (0, 0)


def test_a_run_of_a_full_deployment_is_put_off() -> None:
    of = limited()
    propose(flow_run("SCHEDULED", deployment=of), "PENDING")
    run = flow_run("SCHEDULED", deployment=of)
    outcome = propose(run, "PENDING")
    assert (outcome.status, run.state_type, run.state_name) == ("REJECT", "SCHEDULED", "AwaitingConcurrencySlot")
    assert outcome.details["reason"] == "Deployment concurrency limit reached."
    assert run.next_scheduled_start_time is not None
    assert 25 < (run.next_scheduled_start_time - timezone.now()).total_seconds() <= 30
    assert in_use(of) == 1


def test_a_full_deployment_that_cancels_new_runs_cancels() -> None:
    of = limited(collision_strategy="CANCEL_NEW")
    propose(flow_run("SCHEDULED", deployment=of), "PENDING")
    run = flow_run("SCHEDULED", deployment=of)
    outcome = propose(run, "PENDING")
    assert (outcome.status, run.state_type) == ("REJECT", "CANCELLED")
    assert outcome.state is not None
    assert outcome.state["message"] == "Deployment concurrency limit reached."
    assert in_use(of) == 1


def test_a_limit_of_zero_lets_nothing_run() -> None:
    outcome = propose(flow_run("SCHEDULED", deployment=limited(0)), "PENDING")
    assert outcome.status == "ABORT"
    assert outcome.details["reason"].startswith("The deployment concurrency limit is 0.")


def test_a_run_without_a_deployment_or_limit_needs_no_slot() -> None:
    assert propose(flow_run("SCHEDULED"), "PENDING").status == "ACCEPT"
    assert propose(flow_run("SCHEDULED", deployment=deployment()), "PENDING").status == "ACCEPT"
    assert Lease.objects.count() == 0


@pytest.mark.parametrize("type_", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED"])
def test_every_way_out_gives_the_slot_back(type_: str) -> None:
    of = limited()
    run = flow_run("SCHEDULED", deployment=of)
    propose(run, "PENDING")
    propose(run, "RUNNING")
    propose(run, type_)
    assert in_use(of) == 0


def test_a_forced_end_gives_the_slot_back() -> None:
    of = limited()
    run = flow_run("SCHEDULED", deployment=of)
    propose(run, "PENDING")
    propose(run, "RUNNING", force=True)
    propose(run, "FAILED", force=True)
    assert in_use(of) == 0


def test_a_run_that_is_retried_in_its_process_keeps_its_slot() -> None:
    of = limited()
    run = flow_run("SCHEDULED", deployment=of, empirical_policy={"retries": 1})
    propose(run, "PENDING")
    propose(run, "RUNNING")
    propose(run, "FAILED")
    assert (run.state_name, in_use(of)) == ("AwaitingRetry", 1)
    propose(run, "RUNNING")
    propose(run, "COMPLETED")
    assert in_use(of) == 0


def test_a_start_renews_the_lease() -> None:
    of = limited(grace_period_seconds=600)
    run = flow_run("SCHEDULED", deployment=of)
    propose(run, "PENDING")
    Lease.objects.update(expires_at=timezone.now())
    propose(run, "RUNNING")
    left = Lease.objects.get(pk=lease_of(run)).expires_at - timezone.now()
    assert 590 < left.total_seconds() <= 600


def test_a_run_that_lost_its_slot_takes_another_at_its_start() -> None:
    of = limited()
    run = flow_run("SCHEDULED", deployment=of)
    propose(run, "PENDING")
    lost = lease_of(run)
    assert lost is not None
    slots.give_back(Lease.objects.get(pk=lost).pk)
    assert propose(run, "RUNNING").status == "ACCEPT"
    assert lease_of(run) not in (None, lost)
    assert in_use(of) == 1


def test_a_run_that_lost_its_slot_to_another_is_cancelled_and_takes_nothing_from_it() -> None:
    of = limited()
    run = flow_run("SCHEDULED", deployment=of)
    propose(run, "PENDING")
    slots.give_back(Lease.objects.get().pk)
    propose(flow_run("SCHEDULED", deployment=of), "PENDING")
    outcome = propose(run, "RUNNING")
    assert (outcome.status, run.state_type) == ("REJECT", "CANCELLED")
    assert outcome.details["reason"] == "Deployment concurrency limit reached after lease expiry."
    assert in_use(of) == 1


def test_a_client_that_cannot_renew_keeps_its_slot_to_the_end() -> None:
    of = limited()
    run = flow_run("SCHEDULED", deployment=of)
    propose(run, "PENDING", user_agent=OLD_CLIENT)
    propose(run, "RUNNING", user_agent=OLD_CLIENT)
    assert Lease.objects.get(pk=lease_of(run)).expires_at > timezone.now() + timedelta(days=365)
    propose(run, "COMPLETED", user_agent=OLD_CLIENT)
    assert in_use(of) == 0


def test_the_slot_of_a_holder_that_died_goes_to_the_next() -> None:
    of = limited()
    propose(flow_run("SCHEDULED", deployment=of), "PENDING")
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert propose(flow_run("SCHEDULED", deployment=of), "PENDING").status == "ACCEPT"
    assert (in_use(of), Lease.objects.count()) == (1, 1)


def test_a_late_run_of_a_full_deployment_that_cancels_new_runs_is_cancelled() -> None:
    of = limited(collision_strategy="CANCEL_NEW")
    propose(flow_run("SCHEDULED", deployment=of), "PENDING")
    run = flow_run("SCHEDULED", deployment=of)
    outcome = engine.propose(run.pk, ProposedState(StateType.SCHEDULED, "Late"), policy=policies.LATE_MARKING)
    run.refresh_from_db()
    assert (outcome.status, run.state_type) == ("REJECT", "CANCELLED")


def test_slots_of_several_limits_are_taken_together_or_not_at_all() -> None:
    free = ConcurrencyLimit.objects.create(name="free", limit=2)
    full = ConcurrencyLimit.objects.create(name="full", limit=1, active_slots=1)
    assert slots.take([free.pk, full.pk], lease=timedelta(minutes=1)) is None
    free.refresh_from_db()
    assert (free.active_slots, Lease.objects.count()) == (0, 0)


def test_a_lease_is_given_back_once() -> None:
    limit = ConcurrencyLimit.objects.create(name="two", limit=2, active_slots=1)
    lease = slots.take([limit.pk], lease=timedelta(minutes=1))
    assert lease is not None
    assert [slots.give_back(lease.pk), slots.give_back(lease.pk)] == [True, False]
    limit.refresh_from_db()
    assert limit.active_slots == 1
    assert slots.renew(lease.pk, timedelta(minutes=1)) is False

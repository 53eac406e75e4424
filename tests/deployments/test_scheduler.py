"""Exactly one run per schedule and time, whatever schedulers and redeploys do at once."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deployments import registration, scheduling
from deployments.models import Deployment, DeploymentSchedule
from flowruns.models import FlowRun, FlowRunState
from orchestrator.core.databases import in_one_transaction
from tests.factories import deployment

HOURLY = {"interval": 3600.0, "anchor_date": "2020-01-01T00:00:00Z", "timezone": "UTC"}
NEVER = {"cron": "0 0 30 2 *", "timezone": None, "day_or": True}
BROKEN = {"cron": "not a cron", "timezone": None, "day_or": True}


def schedule(owner: Deployment, content: dict[str, Any] = HOURLY, **columns: Any) -> DeploymentSchedule:
    parameters, slug = columns.get("parameters", {}), columns.get("slug")
    identity = scheduling.schedule_identity(owner.pk, content, parameters, slug)
    return DeploymentSchedule.objects.create(deployment=owner, schedule=content, identity=identity, **columns)


def slots(owner: Deployment) -> Counter[Any]:
    return Counter(owner.runs.values_list("schedule_identity", "expected_start_time"))


def redeploy(owner: Deployment, content: dict[str, Any] = HOURLY) -> None:
    """What a redeploy does to schedules: make them anew, with what was planned from the old ones gone."""

    def work() -> None:
        locked = scheduling.lock(owner.pk)
        DeploymentSchedule.objects.filter(deployment=owner).delete()
        schedule(owner, content)
        scheduling.invalidate(locked)
        scheduling.purge(owner.pk)

    in_one_transaction(work)


@pytest.mark.django_db
def test_a_pass_makes_the_runs_of_the_horizon_as_the_wire_shows_them() -> None:
    owner = deployment(parameters={"a": 1, "b": 1}, tags=["t"], labels={"l": 1}, version="7")
    made_by = schedule(owner, parameters={"b": 2}, slug="hourly")
    report = scheduling.run_once()
    assert (report.schedules, report.inserted, report.quarantined) == (1, 3, 0)
    run = owner.runs.order_by("expected_start_time").select_related("state").first()
    assert run is not None and run.state is not None
    assert run.parameters == {"a": 1, "b": 2}
    assert run.tags == ["auto-scheduled", "t"]
    assert run.labels == {"l": 1, "prefect.flow.id": str(owner.flow_id), "prefect.deployment.id": str(owner.pk)}
    assert run.created_by == {"id": str(made_by.pk), "type": "SCHEDULE", "display_value": "hourly"}
    assert (run.auto_scheduled, run.deployment_version, run.run_count) == (True, "7", 0)
    assert run.next_scheduled_start_time == run.expected_start_time == run.effective_start
    assert run.expected_start_time is not None
    assert run.idempotency_key == f"scheduled {owner.pk} {made_by.pk} {run.expected_start_time:%Y-%m-%d %H:%M:%S}+00:00"
    assert (run.state.type, run.state.name, run.state.message) == ("SCHEDULED", "Scheduled", "Flow run scheduled")
    assert run.state.details["scheduled_time"] == f"{run.expected_start_time:%Y-%m-%dT%H:%M:%S}Z"
    assert run.state.details["flow_run_id"] == str(run.pk)


@pytest.mark.django_db
def test_a_second_pass_has_nothing_to_do_and_asks_once() -> None:
    schedule(deployment())
    scheduling.run_once()
    with CaptureQueriesContext(connection) as asked:
        assert scheduling.run_once().schedules == 0
    assert len(asked) == 1


@pytest.mark.django_db
def test_a_batch_costs_the_same_statements_whatever_its_size() -> None:
    def cost(count: int) -> int:
        for _ in range(count):
            schedule(deployment())
        with CaptureQueriesContext(connection) as asked:
            assert scheduling.run_once(batch=100).schedules == count
        return len(asked)

    assert cost(1) == cost(20)


@pytest.mark.django_db
def test_when_the_horizon_runs_low_only_what_is_missing_is_added() -> None:
    owner = deployment()
    schedule(owner)
    scheduling.run_once()
    later = timezone.now() + timedelta(hours=2)
    assert scheduling.run_once(now=later).inserted == 2
    assert set(slots(owner).values()) == {1}


@pytest.mark.django_db
def test_a_schedule_that_cannot_be_planned_is_put_aside_and_stops_nobody() -> None:
    bad = schedule(deployment(), BROKEN)
    never = schedule(deployment(), NEVER)
    good = deployment()
    schedule(good)
    report = scheduling.run_once()
    assert (report.inserted, report.quarantined) == (3, 2)
    bad.refresh_from_db()
    never.refresh_from_db()
    assert bad.error and bad.refill_at is None
    assert "no occurrence" in never.error and never.refill_at is None
    assert scheduling.run_once().schedules == 0


@pytest.mark.django_db
def test_two_equal_schedules_make_one_run_and_say_so() -> None:
    owner = deployment()
    twins = [schedule(owner), schedule(owner)]
    assert scheduling.run_once().inserted == 3
    for twin in twins:
        twin.refresh_from_db()
        assert "equal" in twin.error
        assert twin.refill_at is not None


@pytest.mark.django_db
def test_a_paused_deployment_and_an_inactive_schedule_make_no_runs() -> None:
    schedule(deployment(paused=True))
    schedule(deployment(), active=False)
    assert scheduling.run_once().schedules == 0


@pytest.mark.django_db
def test_a_plan_from_before_a_redeploy_inserts_nothing() -> None:
    owner = deployment()
    schedule(owner)
    now = timezone.now()
    plans = [scheduling.plan(source, now) for source in in_one_transaction(lambda: scheduling.claim(now, 10))]
    assert plans[0].dates
    redeploy(owner)
    assert in_one_transaction(lambda: scheduling.commit(plans)) == 0
    assert owner.runs.count() == 0
    assert scheduling.run_once().inserted == 3


@pytest.mark.django_db
def test_a_run_that_was_begun_keeps_its_slot_through_a_redeploy() -> None:
    owner = deployment()
    schedule(owner)
    scheduling.run_once()
    first = owner.runs.order_by("expected_start_time").first()
    assert first is not None
    FlowRun.objects.filter(pk=first.pk).update(state_type="RUNNING", run_count=1)
    redeploy(owner)
    assert scheduling.run_once().inserted == 2
    assert owner.runs.filter(pk=first.pk).exists()
    assert set(slots(owner).values()) == {1}


@pytest.mark.django_db
def test_a_pause_leaves_no_planned_run_and_a_resume_makes_them_due() -> None:
    owner = deployment()
    schedule(owner)
    scheduling.run_once()
    registration.pause(owner.pk)
    assert owner.runs.count() == 0
    assert scheduling.run_once().schedules == 0
    registration.resume(owner.pk)
    assert scheduling.run_once().inserted == 3


@pytest.mark.django_db
def test_a_range_is_bounded_and_repeating_it_adds_nothing() -> None:
    owner = deployment()
    schedule(owner)
    span = {"min_runs": 10**9, "max_runs": 10**9, "min_time": timedelta(days=99)}
    assert scheduling.schedule_range(owner.pk, **span) == 1000
    start = owner.runs.order_by("expected_start_time").values_list("expected_start_time", flat=True).first()
    assert scheduling.schedule_range(owner.pk, start=start, **span) == 0
    assert FlowRunState.objects.filter(run__deployment=owner).count() == 1000


def at_once(*works: Any) -> list[BaseException]:
    """Run every function on a thread of its own; what went wrong."""
    faults: list[BaseException] = []

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


@pytest.mark.django_db(transaction=True)
def test_two_schedulers_and_a_redeploy_at_once_make_each_run_once() -> None:
    owners = [deployment() for _ in range(5)]
    for owner in owners:
        schedule(owner)
    for _ in range(40):
        DeploymentSchedule.objects.update(refill_at=timezone.now())
        faults = at_once(scheduling.run_once, scheduling.run_once, lambda: redeploy(owners[0]))
        assert faults == []
    while scheduling.run_once().schedules:
        pass
    for owner in owners:
        assert set(slots(owner).values()) == {1}
        assert owner.runs.count() >= 3
    assert FlowRun.objects.filter(state__isnull=True).count() == 0
    assert FlowRunState.objects.count() == FlowRun.objects.count()


def pause(owner: Deployment) -> None:
    in_one_transaction(lambda: registration.pause(owner.pk))


@pytest.mark.django_db(transaction=True)
def test_a_pause_at_the_instant_of_a_pass_leaves_no_run_behind() -> None:
    owner = deployment()
    schedule(owner)
    for _ in range(40):
        in_one_transaction(lambda: registration.resume(owner.pk))
        assert at_once(scheduling.run_once, lambda: pause(owner)) == []
        assert owner.runs.count() == 0


@pytest.mark.django_db
def test_the_due_schedules_are_found_by_their_index() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("a plan of PostgreSQL")
    owner = deployment()
    identity = scheduling.schedule_identity(owner.pk, HOURLY, {}, None)
    later = timezone.now() + timedelta(days=1)
    DeploymentSchedule.objects.bulk_create(
        DeploymentSchedule(deployment=owner, schedule=HOURLY, identity=identity, refill_at=later) for _ in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE deployments_deploymentschedule")
    due = DeploymentSchedule.objects.filter(active=True, refill_at__lte=timezone.now())
    assert "schedule_due" in due.explain()

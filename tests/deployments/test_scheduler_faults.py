"""What can go wrong around a scheduler: it dies, stands still, meets rows it cannot write, or a worker is quicker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.db.models import Count
from django.utils import timezone

from deployments import scheduling
from deployments.models import Deployment, DeploymentSchedule
from flowruns.models import FlowRun, FlowRunState
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import Unprocessable
from tests.factories import deployment

ROOT = Path(__file__).parent.parent.parent
HOURLY = {"interval": 3600.0, "anchor_date": "2020-01-01T00:00:00Z", "timezone": "UTC"}
EVERY_MINUTE = {"cron": "* * * * *", "timezone": "America/New_York", "day_or": True}
DAILY = {"rrule": "DTSTART:20200101T090000\nFREQ=DAILY", "timezone": "America/New_York"}
SECONDS = 30.0


def schedule(owner: Deployment, content: dict[str, Any] = HOURLY, **columns: Any) -> DeploymentSchedule:
    identity = scheduling.schedule_identity(owner.pk, content, columns.get("parameters", {}), columns.get("slug"))
    return DeploymentSchedule.objects.create(deployment=owner, schedule=content, identity=identity, **columns)


def awaited(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


def claimed_and_planned(now: datetime) -> list[scheduling.Plan]:
    return [scheduling.plan(source, now) for source in in_one_transaction(lambda: scheduling.claim(now, 10))]


def five_minutes_ago() -> datetime:
    then = timezone.now() - timedelta(minutes=5)
    DeploymentSchedule.objects.update(refill_at=then)
    return then


@pytest.mark.django_db
def test_a_scheduler_that_stood_still_changes_nothing_once_another_has_planned() -> None:
    owner = deployment()
    row = schedule(owner, EVERY_MINUTE)
    stale = claimed_and_planned(five_minutes_ago())
    assert scheduling.run_once().inserted > 0
    row.refresh_from_db()
    mark, runs = row.refill_at, set(owner.runs.values_list("pk", flat=True))
    assert in_one_transaction(lambda: scheduling.commit(stale)) == 0
    row.refresh_from_db()
    assert row.refill_at == mark
    assert set(owner.runs.values_list("pk", flat=True)) == runs


@pytest.mark.django_db
def test_a_scheduler_that_stood_still_makes_no_run_for_a_time_gone_by() -> None:
    owner = deployment()
    schedule(owner, EVERY_MINUTE)
    stale = claimed_and_planned(five_minutes_ago())
    resumed = timezone.now()
    assert in_one_transaction(lambda: scheduling.commit(stale)) > 0
    assert not owner.runs.filter(expected_start_time__lt=resumed).exists()


@pytest.mark.django_db(transaction=True)
def test_a_schedule_whose_runs_the_database_refuses_is_put_aside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = schedule(deployment()), schedule(deployment())
    row_of = scheduling.source_row

    def with_one_refused(source: scheduling.Source) -> list[Any]:
        row = row_of(source)
        return ["{not json" if value == "{}" else value for value in row] if source.id == bad.pk else row

    monkeypatch.setattr(scheduling, "source_row", with_one_refused)
    report = scheduling.run_once()
    assert (report.inserted, report.quarantined) == (3, 1)
    assert good.deployment.runs.count() == 3
    assert bad.deployment.runs.count() == 0
    good.refresh_from_db()
    bad.refresh_from_db()
    assert good.error == ""
    assert good.refill_at is not None
    assert bad.error
    assert bad.refill_at is None


@pytest.mark.django_db
def test_equal_schedules_say_so_although_they_are_planned_in_different_passes() -> None:
    owner = deployment()
    twins = [schedule(owner), schedule(owner)]
    assert [scheduling.run_once(batch=1).inserted, scheduling.run_once(batch=1).inserted] == [3, 0]
    for twin in twins:
        twin.refresh_from_db()
        assert "equal" in twin.error
        assert twin.refill_at is not None


@pytest.mark.django_db
@pytest.mark.parametrize("content", [HOURLY, EVERY_MINUTE, DAILY], ids=["interval", "cron", "rrule"])
@pytest.mark.parametrize(
    "span",
    [
        {"min_runs": -5, "max_runs": -7},
        {"min_runs": -5},
        {"min_runs": 50, "max_runs": 5},
        {"min_runs": 10**9, "max_runs": 10**9, "end": datetime(9999, 12, 31, 23, 59)},
        {"start": datetime(1, 1, 1)},
        {"start": datetime(9999, 12, 31, 23, 59)},
        {"start": datetime(1, 1, 1, tzinfo=UTC), "end": datetime(1, 1, 3, tzinfo=UTC)},
        {"end": datetime(1, 1, 1)},
        {"min_time": timedelta.max},
        {"min_time": timedelta.min},
    ],
    ids=str,
)
def test_a_range_is_clamped_or_refused_whatever_its_bounds(content: dict[str, Any], span: dict[str, Any]) -> None:
    owner = deployment()
    schedule(owner, content)
    try:
        made = scheduling.schedule_range(owner.pk, **span)
    except Unprocessable:
        made = 0
    assert made == owner.runs.count() <= 1000


@pytest.mark.django_db
def test_a_range_that_ends_before_it_starts_has_no_runs() -> None:
    owner = deployment()
    schedule(owner)
    now = timezone.now()
    assert scheduling.schedule_range(owner.pk, start=now, end=now - timedelta(days=1)) == 0


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_run_that_a_worker_takes_during_a_purge_keeps_its_history() -> None:
    owner = deployment()
    schedule(owner)
    scheduling.run_once()
    taken = owner.runs.order_by("expected_start_time").first()
    assert taken is not None

    def purge() -> None:
        try:
            in_one_transaction(lambda: scheduling.purge(owner.pk))
        finally:
            connection.close()

    purging = threading.Thread(target=purge)

    def take() -> None:
        run = FlowRun.objects.select_for_update().get(pk=taken.pk)
        pending = FlowRunState.objects.create(run=run, type="PENDING", name="Pending")
        FlowRun.objects.filter(pk=run.pk).update(state_type="PENDING", state_name="Pending", state=pending)
        purging.start()
        if connection.vendor == "postgresql":
            awaited(waits_for_a_lock, "the purge to meet the worker's lock")

    in_one_transaction(take)
    purging.join()
    assert list(owner.runs.values_list("pk", flat=True)) == [taken.pk]
    assert list(taken.states.order_by("timestamp").values_list("type", flat=True)) == ["SCHEDULED", "PENDING"]
    assert FlowRunState.objects.count() == 2


def environment_of_the_test_database() -> dict[str, str]:
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        url = f"sqlite:///{name}"
    else:
        url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    return os.environ | {"DATABASE_URL": url, "PREFECT_SERVER_SERVICES_SCHEDULER_DEPLOYMENT_BATCH_SIZE": "1"}


@contextmanager
def schedule_runs(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "manage.py", "schedule_runs", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment_of_the_test_database(), stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_scheduler_left_undone_the_next_one_does() -> None:
    owners = [deployment() for _ in range(300)]
    for owner in owners:
        schedule(owner, DAILY)
    with schedule_runs() as doomed:
        awaited(lambda: FlowRun.objects.count() >= 30, "the first runs")
        doomed.kill()
        doomed.wait(SECONDS)
    assert FlowRun.objects.count() < 900
    with schedule_runs("--once") as next_one:
        said, _ = next_one.communicate(timeout=SECONDS)
        assert next_one.returncode == 0
        assert "runs inserted" in said
    # What the dead one had in hand is due when its claim runs out.
    while scheduling.run_once(now=timezone.now() + scheduling.CLAIM).more:
        pass
    assert Deployment.objects.annotate(n=Count("runs")).filter(n__gte=3).count() == 300
    slots = FlowRun.objects.values("schedule_identity", "expected_start_time").annotate(n=Count("pk"))
    assert not slots.filter(n__gt=1).exists()
    assert FlowRunState.objects.count() == FlowRun.objects.count()
    assert not FlowRun.objects.filter(state__isnull=True).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_scheduler_told_to_stop_ends_without_a_fault(number: signal.Signals) -> None:
    owner = deployment()
    schedule(owner)
    with schedule_runs() as process:
        awaited(owner.runs.exists, "the first run")
        process.send_signal(number)
        assert process.wait(SECONDS) == 0

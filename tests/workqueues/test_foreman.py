"""Silence, and what the foreman makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import deployment, work_pool, work_queue
from workqueues import services, statuses
from workqueues.models import Worker
from workqueues.services import Foreman

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.fixture
def stopped_clock(monkeypatch):
    monkeypatch.setattr(services.timezone, "now", lambda: NOW)


@pytest.mark.parametrize(
    ("interval", "silent_for", "status"),
    [(None, 89, "ONLINE"), (None, 90, "OFFLINE"), (10, 29, "ONLINE"), (10, 31, "OFFLINE"), (60, 179, "ONLINE")],
)
def test_a_worker_is_online_for_three_heartbeats(interval, silent_for, status):
    allowed = statuses.silence_allowed(interval, timedelta(seconds=30), 3)
    assert statuses.worker_status(ago(silent_for), allowed, NOW) == status


@pytest.mark.parametrize(
    ("status", "is_paused", "last_polled", "expected"),
    [
        ("READY", True, ago(1), "PAUSED"),
        ("PAUSED", True, None, "PAUSED"),
        ("PAUSED", False, ago(60), "READY"),
        ("PAUSED", False, ago(61), "NOT_READY"),
        ("PAUSED", False, None, "NOT_READY"),
        ("NOT_READY", False, ago(1), "NOT_READY"),
        ("READY", False, None, "READY"),
    ],
)
def test_a_queue_switched_takes_the_status_that_its_last_poll_gives(status, is_paused, last_polled, expected):
    given = {"is_paused": is_paused, "last_polled": last_polled, "timeout": MINUTE, "now": NOW}
    assert statuses.switched_queue(status, **given) == expected


@pytest.mark.django_db
def test_silent_workers_go_offline_and_their_pool_with_them(stopped_clock):
    pool, lively, paused = (work_pool(status=s) for s in ("READY", "READY", "PAUSED"))
    for owner, interval, silent in ((pool, None, 91), (pool, 5, 16), (lively, 60, 100), (paused, None, 500)):
        Worker.objects.create(
            work_pool=owner, name=str(silent), heartbeat_interval_seconds=interval, last_heartbeat_time=ago(silent)
        )
    Foreman().poll()
    for row in (pool, lively, paused):
        row.refresh_from_db()
    assert (pool.status, lively.status, paused.status) == ("NOT_READY", "READY", "PAUSED")
    assert set(Worker.objects.filter(status="OFFLINE").values_list("name", flat=True)) == {"91", "16", "500"}


@pytest.mark.django_db
def test_queues_that_nobody_polls_are_not_ready(stopped_clock):
    pool = work_pool()
    old = work_queue(pool, status="READY", last_polled=ago(61))
    young = work_queue(pool, status="READY", last_polled=ago(59))
    paused = work_queue(pool, status="PAUSED", last_polled=ago(500))
    Foreman().poll()
    for queue in (old, young, paused):
        queue.refresh_from_db()
    assert (old.status, young.status, paused.status) == ("NOT_READY", "READY", "PAUSED")


@pytest.mark.django_db
def test_deployments_stay_ready_while_they_or_their_queue_are_polled(stopped_clock):
    pool = work_pool()
    polled = work_queue(pool, last_polled=ago(10))
    silent = work_queue(pool, last_polled=ago(100))
    by_queue = deployment(status="READY", last_polled=ago(100), work_queue=polled)
    by_itself = deployment(status="READY", last_polled=ago(10), work_queue=silent)
    gone = deployment(status="READY", last_polled=ago(100), work_queue=silent)
    alone = deployment(status="READY", last_polled=ago(100))
    Foreman().poll()
    for row in (by_queue, by_itself, gone, alone):
        row.refresh_from_db()
    assert [row.status for row in (by_queue, by_itself, gone, alone)] == ["READY", "READY", "NOT_READY", "NOT_READY"]


@pytest.mark.django_db
def test_the_foreman_writes_nothing_when_nothing_changed(stopped_clock):
    pool = work_pool(status="READY")
    Worker.objects.create(work_pool=pool, name="w", last_heartbeat_time=ago(1))
    work_queue(pool, status="READY", last_polled=ago(1))
    with CaptureQueriesContext(connection) as queries:
        assert Foreman().poll() == 15
    assert not [query for query in queries if query["sql"].startswith("UPDATE")]

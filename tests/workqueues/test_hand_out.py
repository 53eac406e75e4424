"""Which runs a worker is offered, in which order, within which limits."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deployments.models import Deployment
from flowruns.models import FlowRun
from tests.factories import deployment, flow, flow_run, work_pool, work_queue
from workqueues import dispatch
from workqueues.models import WorkPool, WorkQueue

pytestmark = pytest.mark.django_db
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def poll(pool: WorkPool, **body: Any) -> Any:
    answer = Client().post(
        f"/api/work_pools/{pool.name}/get_scheduled_flow_runs", json.dumps(body, default=str), "application/json"
    )
    return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json())


def names(pool: WorkPool, **body: Any) -> list[str]:
    return [item["flow_run"]["name"] for item in poll(pool, **body)]


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def pool() -> WorkPool:
    return work_pool("hand-out")


@pytest.fixture
def second(pool: WorkPool) -> WorkQueue:
    return work_queue(pool, "second", priority=2)


def test_queues_come_by_priority_and_runs_by_start(pool, second):
    flow_run(name="low-early", work_queue=second, at=at(0))
    flow_run(name="high-late", work_queue=pool.default_queue, at=at(20))
    flow_run(name="high-early", work_queue=pool.default_queue, at=at(10))
    assert names(pool) == ["high-early", "high-late", "low-early"]
    assert names(pool, limit=2) == ["high-early", "high-late"]
    assert names(pool, limit=0) == []


def test_queues_of_one_priority_share_one_order(pool):
    twin = work_queue(pool, "twin", priority=1)
    for i, queue in enumerate([pool.default_queue, twin] * 3):
        flow_run(name=str(i), work_queue=queue, at=at(i))
    assert names(pool) == list("012345")
    assert names(pool, limit=3) == list("012")


def test_more_queues_of_one_priority_than_a_statement_takes_share_one_order(pool, monkeypatch):
    monkeypatch.setattr(dispatch, "LEGS", 2)
    queues = [pool.default_queue] + [work_queue(pool, f"twin-{i}", priority=1) for i in range(4)]
    for i, queue in enumerate(reversed(queues)):
        flow_run(name=str(i), work_queue=queue, at=at(i))
    assert names(pool, limit=3) == list("012")


def test_the_window_includes_both_ends(pool):
    for i in range(4):
        flow_run(name=str(i), work_queue=pool.default_queue, at=at(i))
    assert names(pool, scheduled_after=at(1).isoformat(), scheduled_before=at(2).isoformat()) == ["1", "2"]


def test_only_scheduled_runs_that_no_process_retries_are_offered(pool):
    queue = pool.default_queue
    for state in ("PENDING", "RUNNING", "COMPLETED", "CANCELLING"):
        flow_run(state, work_queue=queue)
    flow_run(name="own-process", work_queue=queue, empirical_policy={"retry_type": "in_process"})
    flow_run(name="rescheduled", work_queue=queue, at=at(1), empirical_policy={"retry_type": "reschedule"})
    flow_run(name="plain", work_queue=queue, at=at(2), empirical_policy={"retry_type": None})
    assert names(pool) == ["rescheduled", "plain"]


def test_a_queue_offers_what_its_limit_leaves(pool, second):
    WorkQueue.objects.filter(pk=second.pk).update(concurrency_limit=3)
    flow_run("RUNNING", work_queue=second)
    flow_run("PENDING", work_queue=second)
    flow_run("CANCELLING", work_queue=second)
    for i in range(4):
        flow_run(name=str(i), work_queue=second, at=at(i))
    assert names(pool) == ["0"]
    WorkQueue.objects.filter(pk=second.pk).update(concurrency_limit=0)
    assert names(pool) == []


def test_a_pool_offers_what_its_limit_leaves_whichever_queue_uses_it(pool, second):
    WorkPool.objects.filter(pk=pool.pk).update(concurrency_limit=3)
    WorkQueue.objects.filter(pk=second.pk).update(is_paused=True)
    flow_run("RUNNING", work_queue=second)
    for i in range(4):
        flow_run(name=str(i), work_queue=pool.default_queue, at=at(i))
    assert names(pool) == ["0", "1"]


def test_what_is_paused_offers_nothing(pool, second):
    flow_run(name="first", work_queue=pool.default_queue, at=at(0))
    flow_run(name="second", work_queue=second, at=at(0))
    WorkQueue.objects.filter(pk=second.pk).update(is_paused=True)
    assert names(pool) == ["first"]
    WorkPool.objects.filter(pk=pool.pk).update(is_paused=True)
    assert names(pool) == []


def test_named_queues_alone_are_asked(pool, second):
    flow_run(name="first", work_queue=pool.default_queue)
    flow_run(name="second", work_queue=second)
    assert names(pool, work_queue_names=["second"]) == ["second"]
    assert names(pool, work_queue_names=[]) == ["first", "second"]


def test_unknown_pools_and_queues_are_said_so(pool):
    assert poll(pool, work_queue_names=["nope"]) == (404, {"detail": "Work pool queue 'hand-out/nope' not found."})
    pool.name = "nope"
    assert poll(pool) == (404, {"detail": 'Work pool "nope" not found.'})


def test_an_offered_run_has_no_state_and_no_pool(pool):
    run = flow_run(work_queue=pool.default_queue, parameters={"x": 1})
    (item,) = poll(pool)
    assert item["work_pool_id"] == str(pool.pk)
    assert item["work_queue_id"] == str(pool.default_queue_id)
    offered = item["flow_run"]
    assert (offered["id"], offered["state"], offered["state_type"]) == (str(run.pk), None, "SCHEDULED")
    assert (offered["work_queue_name"], offered["parameters"]) == ("default", {"x": 1})
    assert not {"work_pool_id", "work_pool_name"} & offered.keys()


def test_a_poll_makes_queues_and_their_deployments_ready_but_not_paused_ones(pool, second):
    paused = work_queue(pool, "paused", status="PAUSED", is_paused=True, priority=3)
    mine = deployment(work_queue=second)
    elsewhere = deployment()
    before = timezone.now()
    poll(pool)
    for queue in (second, paused, mine, elsewhere):
        queue.refresh_from_db()
    assert second.status == "READY"
    assert second.last_polled >= before
    assert paused.status == "PAUSED"
    assert paused.last_polled >= before
    assert (mine.status, elsewhere.status) == ("READY", "NOT_READY")
    assert mine.updated < before


def test_a_second_poll_within_seconds_writes_nothing(pool):
    poll(pool)
    with CaptureQueriesContext(connection) as queries:
        poll(pool)
    assert len(queries) == 2
    assert not [query for query in queries if query["sql"].startswith("UPDATE")]


def test_a_poll_that_cannot_be_noted_is_answered_all_the_same(pool, monkeypatch):
    def busy(*_: Any) -> None:
        from django.db import OperationalError

        raise OperationalError("database is locked")

    monkeypatch.setattr(dispatch, "note_polled", busy)
    flow_run(name="run", work_queue=pool.default_queue)
    assert names(pool) == ["run"]


def many_runs(pool: WorkPool, queues: int, each: int) -> None:
    owner = flow()
    lines = [pool.default_queue] + [work_queue(pool, f"queue-{i}", priority=i + 2) for i in range(queues - 1)]
    FlowRun.objects.bulk_create(
        FlowRun(flow=owner, work_queue=queue, state_type="SCHEDULED", next_scheduled_start_time=at(i))
        for queue in lines
        for i in range(each)
    )


@pytest.mark.parametrize("queues", [1, 5])
def test_a_poll_costs_two_queries_however_many_queues(pool, queues):
    many_runs(pool, queues, 3)
    poll(pool)
    with CaptureQueriesContext(connection) as queries:
        assert len(poll(pool)) == queues * 3
    assert len(queries) == 2


def test_a_poll_reads_the_hand_out_index(pool):
    many_runs(pool, 50, 100)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    lines = dispatch.lines_of(pool.name)
    with CaptureQueriesContext(connection) as queries:
        assert len(dispatch.runs_on_offer(lines, lines, dispatch.Window(at(2_000), None, 20))) == 20
    explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        cursor.execute(explain + queries[-1]["sql"])
        plan = "\n".join(str(row) for row in cursor.fetchall())
    assert "flow_run_hand_out" in plan
    assert "Seq Scan on flowruns_flowrun" not in plan
    assert "SCAN flowruns_flowrun" not in plan


@pytest.mark.django_db(transaction=True)
def test_ten_workers_that_poll_at_once_are_all_answered(pool):
    many_runs(pool, 3, 10)
    mine = deployment(work_queue=pool.default_queue)

    def work(_: int) -> int:
        try:
            return len(poll(pool))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as workers:
        assert list(workers.map(work, range(30))) == [30] * 30
    assert Deployment.objects.get(pk=mine.pk).status == "READY"
    assert set(pool.queues.values_list("status", flat=True)) == {"READY"}

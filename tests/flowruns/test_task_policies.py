"""Rules of task runs that hold slots, keep results and are delivered to task workers."""

from __future__ import annotations

from typing import Any

import pytest

from flowruns import deliveries
from flowruns.models import TaskDelivery, TaskRun
from orchestrator.concurrency.models import ConcurrencyLimit, Lease
from tests.api import get, post
from tests.factories import flow_run

pytestmark = pytest.mark.django_db


def make(tags: list[str] | None = None, key: str = "0", **more: Any) -> str:
    run = more.pop("run", None) or flow_run("RUNNING")
    body = {"flow_run_id": str(run.pk), "task_key": "t", "dynamic_key": key, "tags": tags or [], **more}
    return str(post("/task_runs/", body)[1]["id"])


def propose(key: str, type_: str, force: bool = False, **state: Any) -> dict[str, Any]:
    body: dict[str, Any] = post(f"/task_runs/{key}/set_state", {"state": {"type": type_, **state}, "force": force})[1]
    return body


def used(tag: str) -> int:
    return ConcurrencyLimit.objects.get(name=f"tag:{tag}").active_slots


def test_a_task_run_holds_a_slot_of_each_of_its_tags_while_it_runs() -> None:
    for tag in ("db", "api"):
        ConcurrencyLimit.objects.create(name=f"tag:{tag}", limit=1)
    first, second = make(["db", "api"]), make(["db"])
    assert propose(first, "RUNNING")["status"] == "ACCEPT"
    refused = propose(second, "RUNNING")
    assert refused["status"] == "WAIT"
    assert refused["details"]["reason"] == "Concurrency limit reached for tags: db"
    assert 1 <= refused["details"]["delay_seconds"] <= 13
    assert (used("db"), used("api")) == (1, 1)
    assert propose(first, "COMPLETED")["status"] == "ACCEPT"
    assert (used("db"), used("api"), Lease.objects.count()) == (0, 0, 0)
    assert propose(second, "RUNNING")["status"] == "ACCEPT"
    assert propose(second, "CRASHED", force=True)["status"] == "ACCEPT"
    assert used("db") == 0


def test_a_tag_whose_limit_is_0_ends_the_run() -> None:
    ConcurrencyLimit.objects.create(name="tag:db", limit=0)
    refused = propose(make(["db"]), "RUNNING")
    assert refused["status"] == "ABORT"
    assert 'tag "db" is 0' in refused["details"]["reason"]


def test_a_slot_taken_for_a_state_that_a_later_rule_refuses_is_given_back() -> None:
    ConcurrencyLimit.objects.create(name="tag:db", limit=1)
    key = make(["db"], state={"type": "SCHEDULED", "state_details": {"scheduled_time": "2999-01-01T00:00:00Z"}})
    assert propose(key, "RUNNING")["status"] == "WAIT"
    assert (used("db"), Lease.objects.count()) == (0, 0)


def test_a_cached_result_is_taken_over_until_it_expires() -> None:
    first, second, third = make(), make(), make()
    details = {"cache_key": "k"}
    propose(first, "RUNNING", state_details=details)
    data = {"type": "reference", "storage_key": "x"}
    propose(first, "COMPLETED", data=data, state_details=details | {"cache_expiration": "2999-01-01T00:00:00Z"})
    taken = propose(second, "RUNNING", state_details=details)
    assert (taken["status"], taken["state"]["name"], taken["state"]["data"]) == ("REJECT", "Cached", data)
    assert get(f"/task_runs/{second}")[1]["state_type"] == "COMPLETED"
    assert propose(third, "RUNNING", state_details=details | {"refresh_cache": True})["status"] == "ACCEPT"
    assert propose(third, "COMPLETED", state_details={"cache_key": "x" * 2_001})["status"] == "REJECT"


def deferred(name: str = "Scheduled", **more: Any) -> str:
    state = {"type": "SCHEDULED", "name": name, "state_details": {"deferred": True, "task_parameters_id": PARAMETERS}}
    body = {"task_key": "shout", "dynamic_key": name + str(more), "state": state}
    return str(post("/task_runs/", body)[1]["id"])


PARAMETERS = "3f9d3a70-0000-4000-8000-000000000000"


def test_a_background_task_is_taken_by_one_worker_and_needs_no_flow() -> None:
    key = deferred()
    details = {"deferred": True}
    assert propose(key, "PENDING", state_details=details)["status"] == "ACCEPT"
    assert propose(key, "PENDING", state_details=details)["status"] == "ABORT"
    running = propose(key, "RUNNING", state_details=details)
    assert (running["status"], running["state"]["state_details"]["task_parameters_id"]) == ("ACCEPT", PARAMETERS)


def test_retries_are_delivered_before_others_and_each_once() -> None:
    first, again, later = deferred(a=1), deferred("AwaitingRetry"), deferred(a=2)
    assert [str(deliveries.claim(["shout"])) for _ in range(4)] == [again, first, later, "None"]
    assert deliveries.claim(["other"]) is None
    deliveries.give_up(TaskRun.objects.get(pk=later).pk)
    assert str(deliveries.claim(["shout"])) == later
    deliveries.delivered(TaskRun.objects.get(pk=later).pk)
    assert TaskDelivery.objects.count() == 2


def test_a_background_task_that_is_scheduled_again_is_offered_again() -> None:
    key = deferred()
    deliveries.delivered(TaskRun.objects.get().pk)
    details = {"deferred": True}
    propose(key, "PENDING", state_details=details)
    assert propose(key, "SCHEDULED", name="AwaitingRetry", state_details=details)["status"] == "ACCEPT"
    assert TaskDelivery.objects.get().again is True


def test_a_failed_background_task_is_tried_again_by_who_has_it() -> None:
    key = deferred()
    TaskRun.objects.update(empirical_policy={"retries": 1, "retry_delay": 0})
    deliveries.delivered(TaskRun.objects.get().pk)
    for type_ in ("PENDING", "RUNNING"):
        propose(key, type_, state_details={"deferred": True})
    assert propose(key, "FAILED", state_details={"deferred": True})["state"]["name"] == "AwaitingRetry"
    assert not TaskDelivery.objects.exists()

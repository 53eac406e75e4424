"""Pools, queues and workers over the API."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import NotFound
from tests.factories import deployment, flow_run, work_pool, work_queue
from workqueues.models import Worker, WorkPool, WorkQueue
from workqueues.registration import default_agent_queue, resolve

pytestmark = pytest.mark.django_db


def send(method: str, path: str, body: Any = None, **headers: Any) -> tuple[int, Any]:
    content = b"" if body is None else json.dumps(body, default=str)
    answer = Client().generic(method, f"/api/{path}", content, "application/json", headers=headers)
    return answer.status_code, answer.json() if answer.content else None


def post(path: str, body: Any = None, **headers: Any) -> tuple[int, Any]:
    return send("POST", path, {} if body is None else body, **headers)


def get(path: str) -> Any:
    status, body = send("GET", path)
    assert status == 200, body
    return body


def line(pool: str) -> dict[str, int]:
    return {queue["name"]: queue["priority"] for queue in post(f"work_pools/{pool}/queues/filter")[1]}


def test_a_new_pool_has_a_default_queue():
    status, pool = post("work_pools/", {"name": "mine", "type": "process"})
    assert status == 201
    assert list(pool) == [
        "id", "created", "updated", "name", "description", "type", "base_job_template", "is_paused",
        "concurrency_limit", "status", "default_queue_id", "storage_configuration", "active_slots",
    ]  # fmt: skip
    assert (pool["status"], pool["active_slots"], pool["base_job_template"]) == ("NOT_READY", None, {})
    assert pool["storage_configuration"] == {
        "bundle_upload_step": None,
        "bundle_execution_step": None,
        "default_result_storage_block_id": None,
    }
    queue = get("work_pools/mine/queues/default")
    assert (queue["id"], queue["priority"], queue["work_pool_name"]) == (pool["default_queue_id"], 1, "mine")
    assert queue["description"] == "The work pool's default queue."
    assert get("work_pools/mine") == pool


def test_a_pool_made_paused_is_paused_and_one_for_agents_has_no_status():
    assert post("work_pools/", {"name": "a", "type": "process", "is_paused": True})[1]["status"] == "PAUSED"
    assert post("work_pools/", {"name": "b"})[1]["status"] is None


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a%b", "a&b", "a>b", "a<b"])
def test_names_that_no_address_can_hold_are_refused(name):
    assert post("work_pools/", {"name": name})[0] == 422
    work_pool("mine")
    assert post("work_pools/mine/queues", {"name": name})[0] == 422
    assert send("PATCH", "work_pools/mine/queues/default", {"name": name})[0] == 422


@pytest.mark.parametrize(
    "body",
    [
        {"concurrency_limit": -1},
        {"concurrency_limit": 2**31},
        {"base_job_template": None},
        {"base_job_template": {"variables": {}}},
        {"storage_configuration": {"unknown": 1}},
        {"unknown": 1},
    ],
)
def test_what_does_not_fit_a_pool_is_refused(body):
    work_pool("mine")
    assert post("work_pools/", {"name": "other", **body})[0] == 422
    assert send("PATCH", "work_pools/mine", body)[0] == 422


def template(**prop: Any) -> dict[str, Any]:
    return {
        "job_configuration": {"command": "{{ b }}"},
        "variables": {"type": "object", "properties": {"b": prop}, "required": ["b"]},
    }


def test_defaults_of_job_variables_must_fit_when_a_pool_is_made():
    status, answer = post("work_pools/", {"name": "mine", "base_job_template": template(type="integer", default="x")})
    assert status == 422
    assert answer["detail"].startswith("Validation failed for work pool's job variable defaults: ")
    reference = {"$ref": {"block_document_id": str(uuid4())}}
    body = {"name": "mine", "base_job_template": template(type="object", default=reference)}
    assert post("work_pools/", body) == (404, {"detail": "Block not found."})
    assert post("work_pools/", {"name": "mine", "base_job_template": template(type="nonsense", default=1)})[0] == 422
    assert post("work_pools/", {"name": "mine", "base_job_template": template(type="integer", default=1)})[0] == 201
    wrong = {"base_job_template": template(type="integer", default="x")}
    assert send("PATCH", "work_pools/mine", wrong) == (204, None)


def test_pool_errors_are_said_in_the_wires_words():
    work_pool("mine")
    taken = {"detail": "A work pool with this name already exists."}
    reserved = {"detail": "Work pools starting with 'Prefect' are reserved for internal use."}
    missing = {"detail": 'Work pool "nope" not found.'}
    assert post("work_pools/", {"name": "mine"}) == (409, taken)
    assert post("work_pools/", {"name": "Prefect-x"}) == (403, reserved)
    assert send("PATCH", "work_pools/prefect-x", {"description": "x"}) == (403, reserved)
    assert send("PATCH", "work_pools/prefect-x", {"is_paused": True})[0] == 404
    assert send("DELETE", "work_pools/prefect-x") == (403, reserved)
    assert send("GET", "work_pools/nope") == (404, missing)
    assert send("DELETE", "work_pools/nope") == (404, missing)
    assert post("work_pools/nope/queues", {"name": "q"}) == (404, missing)
    assert post("work_pools/nope/queues/filter") == (404, missing)
    assert post("work_pools/nope/workers/filter") == (404, missing)
    assert post("work_pools/nope/workers/heartbeat", {"name": "w"}) == (404, missing)
    assert post("work_pools/nope/concurrency_status") == (404, {"detail": "Work pool 'nope' not found."})
    assert send("PATCH", "work_pools/mine", {"is_paused": None})[0] == 409
    assert send("PUT", "work_pools/mine", {}) == (405, {"detail": "Method Not Allowed"})


def test_a_pool_takes_what_is_sent_and_keeps_the_rest():
    work_pool("mine", description="old", concurrency_limit=3)
    assert send("PATCH", "work_pools/mine", {"description": "new"}) == (204, None)
    pool = get("work_pools/mine")
    assert (pool["description"], pool["concurrency_limit"], pool["active_slots"]) == ("new", 3, 0)


def test_pausing_and_resuming_a_pool_follows_its_workers():
    work_pool("mine")
    send("PATCH", "work_pools/mine", {"is_paused": True})
    assert get("work_pools/mine")["status"] == "PAUSED"
    send("PATCH", "work_pools/mine", {"is_paused": False})
    assert get("work_pools/mine")["status"] == "NOT_READY"
    send("PATCH", "work_pools/mine", {"is_paused": True})
    post("work_pools/mine/workers/heartbeat", {"name": "w"})
    assert get("work_pools/mine")["status"] == "PAUSED"
    send("PATCH", "work_pools/mine", {"is_paused": False})
    assert get("work_pools/mine")["status"] == "READY"


def test_deleting_a_pool_takes_its_queues_and_workers_and_leaves_runs_and_deployments():
    pool = work_pool("mine")
    run, mine = flow_run(work_queue=pool.default_queue), deployment(work_queue=pool.default_queue)
    post("work_pools/mine/workers/heartbeat", {"name": "w"})
    assert send("DELETE", "work_pools/mine") == (204, None)
    run.refresh_from_db()
    mine.refresh_from_db()
    assert (run.work_queue_id, mine.work_queue_id) == (None, None)
    assert not WorkQueue.objects.exists()
    assert not Worker.objects.exists()


def test_slots_in_use_are_counted_where_there_is_a_limit():
    pool = work_pool("mine", concurrency_limit=5)
    queue = work_queue(pool, "q", concurrency_limit=2, is_paused=True)
    for state in ("RUNNING", "PENDING", "CANCELLING", "SCHEDULED"):
        flow_run(state, work_queue=queue)
    assert get("work_pools/mine")["active_slots"] == 2
    assert get("work_pools/mine/queues/q")["active_slots"] == 2
    assert get("work_pools/mine/queues/default")["active_slots"] is None
    assert get(f"work_queues/{queue.pk}")["active_slots"] == 3


def test_pools_are_listed_by_name_and_counted():
    for name in ("b", "a", "c"):
        work_pool(name)
    assert [pool["name"] for pool in post("work_pools/filter")[1]] == ["a", "b", "c"]
    chosen = {"work_pools": {"name": {"any_": ["c", "a"]}}}
    assert [pool["name"] for pool in post("work_pools/filter", {**chosen, "offset": 1})[1]] == ["c"]
    assert post("work_pools/count", chosen) == (200, 2)
    assert post("work_pools/filter", {"limit": 201})[0] == 422


@pytest.mark.parametrize("path", ["work_pools/filter", "work_queues/filter", "work_pools/p0/queues/filter"])
def test_a_list_costs_the_same_for_one_row_and_for_many(path):
    pool = work_pool("p0", concurrency_limit=1)

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert post(path)[0] == 200
        return len(queries)

    one = cost()
    for i in range(1, 6):
        work_pool(f"p{i}", concurrency_limit=1)
        work_queue(pool, f"q{i}", concurrency_limit=1)
    assert cost() == one <= 2


def test_an_old_client_is_not_shown_a_key_that_it_refuses():
    work_pool("mine")
    old = post("work_pools/filter", **{"user-agent": "prefect/3.3.7 (API 0.8.4)"})[1][0]
    new = post("work_pools/filter", **{"user-agent": "prefect/3.8.8 (API 0.8.4)"})[1][0]
    assert "default_result_storage_block_id" not in old["storage_configuration"]
    assert "default_result_storage_block_id" in new["storage_configuration"]


def test_queues_make_room_for_a_priority_and_fill_gaps_without_one():
    work_pool("mine")
    for name in ("a", "b", "c"):
        assert post("work_pools/mine/queues", {"name": name})[0] == 201
    assert line("mine") == {"default": 1, "a": 2, "b": 3, "c": 4}
    post("work_pools/mine/queues", {"name": "d", "priority": 2})
    assert line("mine") == {"default": 1, "d": 2, "a": 3, "b": 4, "c": 5}
    send("PATCH", "work_pools/mine/queues/a", {"priority": 1})
    assert line("mine") == {"a": 1, "default": 2, "d": 3, "b": 4, "c": 5}
    send("PATCH", "work_pools/mine/queues/a", {"priority": 10})
    assert line("mine") == {"default": 2, "d": 3, "b": 4, "c": 5, "a": 10}
    assert post("work_pools/mine/queues", {"name": "e"})[1]["priority"] == 1
    assert send("DELETE", "work_pools/mine/queues/d") == (204, None)
    assert line("mine") == {"e": 1, "default": 2, "b": 4, "c": 5, "a": 10}


def test_queue_errors_are_said_in_the_wires_words():
    pool = work_pool("mine")
    work_queue(pool, "q")
    missing = {"detail": "Work pool queue 'mine/nope' not found."}
    assert send("GET", "work_pools/mine/queues/nope") == (404, missing)
    assert send("PATCH", "work_pools/mine/queues/nope", {"description": "x"}) == (404, missing)
    assert send("DELETE", "work_pools/mine/queues/nope") == (404, missing)
    assert send("GET", "work_pools/x/queues/nope")[1] == {"detail": "Work pool queue 'x/nope' not found."}
    assert post("work_pools/mine/queues", {"name": "q"})[0] == 409
    assert post("work_pools/mine/queues", {"name": "r", "priority": 0})[0] == 422
    assert send("PATCH", "work_pools/mine/queues/q", {"name": "default"})[0] == 409
    assert send("PATCH", "work_pools/mine/queues/q", {"priority": None})[0] == 409
    assert send("PATCH", "work_pools/mine/queues/q", {"description": None})[0] == 409
    assert send("DELETE", "work_pools/mine/queues/default")[0] == 409
    assert send("DELETE", f"work_queues/{pool.default_queue_id}")[0] == 409


def test_a_default_queue_keeps_its_role_under_another_name():
    pool = work_pool("mine")
    assert send("PATCH", "work_pools/mine/queues/default", {"name": "main"}) == (204, None)
    assert get("work_pools/mine")["default_queue_id"] == get("work_pools/mine/queues/main")["id"]
    assert resolve("mine", None, create=True).pk == pool.default_queue_id


def test_a_queue_resumed_is_ready_only_if_it_was_polled_lately():
    pool = work_pool("mine")
    queue = work_queue(pool, "q", last_polled=timezone.now(), status="READY")
    send("PATCH", "work_pools/mine/queues/q", {"is_paused": True})
    assert get("work_pools/mine/queues/q")["status"] == "PAUSED"
    send("PATCH", "work_pools/mine/queues/q", {"is_paused": False})
    assert get("work_pools/mine/queues/q")["status"] == "READY"
    WorkQueue.objects.filter(pk=queue.pk).update(status="PAUSED", last_polled=None)
    send("PATCH", f"work_queues/{queue.pk}", {"is_paused": False})
    assert get("work_pools/mine/queues/q")["status"] == "NOT_READY"


def test_a_heartbeat_makes_a_worker_and_its_pool_ready():
    work_pool("mine")
    beat = "work_pools/mine/workers/heartbeat"
    assert post(beat, {"name": "w", "heartbeat_interval_seconds": 7, "extra": 1}) == (204, None)
    first = post("work_pools/mine/workers/filter")[1][0]
    assert post(beat, {"name": "w"}) == (204, None)
    (worker,) = post("work_pools/mine/workers/filter")[1]
    assert (worker["id"], worker["heartbeat_interval_seconds"], worker["status"]) == (first["id"], 7, "ONLINE")
    assert worker["last_heartbeat_time"] > first["last_heartbeat_time"]
    assert get("work_pools/mine")["status"] == "READY"
    assert post(beat, {})[0] == 422
    assert send("DELETE", "work_pools/mine/workers/w") == (204, None)
    assert send("DELETE", "work_pools/mine/workers/w") == (404, {"detail": "Worker not found."})


def test_the_slots_of_a_pool_are_shown_queue_by_queue():
    pool = work_pool("mine", concurrency_limit=9)
    work_queue(pool, "q", priority=2, concurrency_limit=4)
    runs = sorted(str(flow_run("RUNNING", work_queue=pool.default_queue).pk) for _ in range(3))
    shown = post("work_pools/mine/concurrency_status", {"flow_run_limit": 2})[1]
    first, second = shown["queues"]
    assert (shown["active_slots"], shown["concurrency_limit"], shown["count"], shown["pages"]) == (3, 9, 2, 1)
    assert (first["queue_name"], first["flow_run_count"], first["active_slots"]) == ("default", 3, 3)
    assert [run["id"] for run in first["flow_runs"]] == runs[:2]
    assert list(first["flow_runs"][0]) == [
        "id", "name", "state_type", "state_name", "start_time", "state_timestamp", "time_in_current_state",
    ]  # fmt: skip
    assert (second["queue_name"], second["concurrency_limit"], second["flow_runs"]) == ("q", 4, [])


def test_the_slots_of_a_queue_count_runs_that_only_know_its_name():
    queue = work_queue(work_pool("mine"), "q")
    flow_run("RUNNING", work_queue=queue)
    flow_run("CANCELLING", work_queue_name="q")
    shown = post(f"work_queues/{queue.pk}/concurrency_status", {"limit": 1})[1]
    assert (shown["active_slots"], shown["count"], shown["pages"], len(shown["flow_runs"])) == (2, 2, 2, 1)
    assert post(f"work_queues/{uuid4()}/concurrency_status") == (404, {"detail": "Work queue not found."})


def test_a_queue_without_a_pool_lands_with_the_agents():
    status, queue = post("work_queues/", {"name": "default"})
    assert (status, queue["work_pool_name"]) == (201, "default-agent-pool")
    assert get("work_pools/default-agent-pool")["default_queue_id"] == queue["id"]
    assert post("work_queues/", {"name": "default"})[0] == 409
    made = post("work_queues/", {"name": "q"})[1]
    assert (made["priority"], get("work_queues/name/q")["id"]) == (2, made["id"])
    work_queue(work_pool("mine"), "elsewhere")
    assert send("GET", "work_queues/name/elsewhere") == (404, {"detail": "work queue not found"})


def test_a_queue_by_id_is_changed_without_moving_the_others():
    pool = work_pool("mine")
    queue = work_queue(pool, "q", priority=2)
    assert send("PATCH", f"work_queues/{queue.pk}", {"priority": 1}) == (204, None)
    assert line("mine") == {"default": 1, "q": 1}
    assert send("DELETE", f"work_queues/{queue.pk}") == (204, None)
    assert send("GET", f"work_queues/{queue.pk}")[0] == 404
    assert send("GET", "work_queues/none") == (404, {"detail": "Not Found"})
    gone = send("PATCH", f"work_queues/{queue.pk}", {"priority": 1})
    assert gone == (404, {"detail": f"Work Queue {queue.pk} not found"})


def test_an_agent_gets_runs_by_the_queues_name_within_its_limit():
    queue = work_queue(work_pool("mine"), "q", concurrency_limit=3)
    flow_run("CANCELLING", work_queue_name="q")
    runs = [flow_run(work_queue_name="q") for _ in range(3)]
    path = f"work_queues/{queue.pk}/get_runs"
    found = post(path, {}, **{"x-prefect-ui": "true"})[1]
    assert [run["id"] for run in found] == [str(run.pk) for run in runs[:2]]
    assert found[0]["state"]["type"] == "SCHEDULED"
    queue.refresh_from_db()
    assert queue.status == "NOT_READY"
    post(path)
    queue.refresh_from_db()
    assert queue.status == "READY"
    assert post(f"work_queues/{uuid4()}/get_runs")[0] == 404


def test_a_queue_with_an_old_filter_offers_what_the_filter_chooses():
    mine, other = deployment(), deployment()
    queue = work_queue(work_pool("mine"), "q", filter={"tags": ["x"], "deployment_ids": [str(mine.pk)]})
    chosen = flow_run(deployment=mine, tags=["x", "y"])
    flow_run(deployment=mine, tags=["y"])
    flow_run(deployment=other, tags=["x"])
    assert [run["id"] for run in post(f"work_queues/{queue.pk}/get_runs")[1]] == [str(chosen.pk)]


def test_a_queue_is_healthy_when_it_is_polled_and_nothing_is_late():
    queue = work_queue(work_pool("mine"), "q", last_polled=timezone.now())
    assert get(f"work_queues/{queue.pk}/status")["healthy"] is True
    flow_run(state_name="Late", work_queue=queue)
    status = get(f"work_queues/{queue.pk}/status")
    assert (status["healthy"], status["late_runs_count"]) == (False, 1)
    assert status["health_check_policy"] == {"maximum_late_runs": 0, "maximum_seconds_since_last_polled": 60}


def test_names_of_pool_and_queue_lead_to_a_queue():
    pool = work_pool("mine")
    assert resolve(None, None, create=True) is None
    assert resolve("mine", "", create=False).pk == pool.default_queue_id
    assert resolve("mine", "new", create=True).priority == 2
    assert resolve(None, "of-agents", create=True).work_pool.name == "default-agent-pool"
    assert line("default-agent-pool") == {"of-agents": 1, "default": 2}
    with pytest.raises(NotFound, match=r"Work pool queue 'mine/unknown' not found\."):
        resolve("mine", "unknown", create=False)
    with pytest.raises(NotFound, match=r'Work pool "unknown" not found\.'):
        resolve("unknown", None, create=True)


@pytest.mark.django_db(transaction=True)
def test_ten_at_once_get_one_queue():
    def work(_: int) -> Any:
        try:
            return in_one_transaction(lambda: default_agent_queue("q").pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as makers:
        assert len(set(makers.map(work, range(10)))) == 1
    assert WorkPool.objects.count() == 1
    assert line("default-agent-pool") == {"q": 1, "default": 2}


def test_the_process_worker_is_described_and_unknown_views_are_not_found():
    view = get("collections/views/aggregate-worker-metadata")
    template = view["prefect"]["process"]["default_base_job_configuration"]
    assert template["job_configuration"]["working_dir"] == "{{ working_dir }}"
    assert template["variables"]["properties"]["stream_output"]["default"] is True
    assert get("collections/views/demo-flows") == {}
    assert send("GET", "collections/views/x") == (404, {"detail": "View x not found in registry"})

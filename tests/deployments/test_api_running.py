"""Runs of deployments: made by clients, planned on request, polled by runners."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from deployments.models import Deployment
from flowruns.models import FlowRun
from orchestrator.blocks.models import Variable
from tests import factories
from tests.deployments.test_api_deployments import DAILY, HOURLY, NUMBER, Api, planned, queries, typed_pool
from workqueues.models import WorkQueue

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> Api:
    return Api()


def run(api: Api, made: Any, status: int = 201, /, **body: Any) -> Any:
    answer = api.send("POST", f"{made['id']}/create_flow_run", body)
    assert answer.status_code == status, answer.content
    return answer.json()


def bulk(api: Api, made: Any, items: list[Any]) -> Any:
    answer = api.send("POST", f"{made['id']}/create_flow_run/bulk", items)
    assert answer.status_code == 200, answer.content
    return answer.json()["results"]


def test_a_run_takes_what_it_does_not_bring_from_its_deployment(api: Api) -> None:
    pool = factories.work_pool()
    made = api.create(
        work_pool_name=pool.name,
        version="7",
        parameters={"a": 1, "b": 1},
        tags=["x"],
        labels={"l": 1},
        job_variables={"j": 1},
        paused=True,
    )
    created = run(api, made, parameters={"b": 2}, tags=["x", "y"], labels={"m": 2}, job_variables={"k": 2})
    assert created["parameters"] == {"a": 1, "b": 2} and created["job_variables"] == {"k": 2}
    assert sorted(created["tags"]) == ["x", "y"] and created["auto_scheduled"] is False
    assert (created["flow_id"], created["deployment_id"]) == (made["flow_id"], made["id"])
    assert (created["deployment_version"], created["work_queue_id"]) == ("7", made["work_queue_id"])
    assert (created["work_queue_name"], created["work_pool_name"]) == ("default", pool.name)
    system = {"prefect.flow.id": made["flow_id"], "prefect.deployment.id": made["id"]}
    assert created["labels"] == {"l": 1, "m": 2} | system
    assert (created["state"]["type"], created["state"]["name"]) == ("SCHEDULED", "Scheduled")
    assert created["name"]


def test_a_run_with_the_nulls_of_the_client_is_made_in_the_state_it_asks_for(api: Api) -> None:
    at = (timezone.now() + timedelta(hours=1)).isoformat()
    nulls = dict.fromkeys(("name", "idempotency_key", "labels", "parent_task_run_id", "work_queue_name", "job_variables"))
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at, "deferred": None}}
    created = run(api, api.create(), state=state, **nulls)
    assert created["next_scheduled_start_time"] is not None and created["state_type"] == "SCHEDULED"


def test_the_same_idempotency_key_gives_the_same_run(api: Api) -> None:
    made = api.create()
    first = run(api, made, idempotency_key="k")
    again = run(api, made, 200, idempotency_key="k", parameters={"x": 1})
    assert again["id"] == first["id"] and again["parameters"] == {}


def test_a_run_never_changes_the_parameters_of_its_deployment(api: Api) -> None:  # E11
    made = api.create(parameters={"a": {"deep": 1}})
    for number in range(20):
        run(api, made, parameters={"a": {"deep": number}, "new": number})
    assert api.read(made["id"]) == made


@pytest.mark.django_db(transaction=True)
def test_runs_made_at_once_leave_the_deployment_as_it_was(api: Api) -> None:  # E11
    made = api.create(parameters={"a": 1})

    def make(number: int) -> int:
        try:
            body = {"parameters": {"a": number}}
            return Api().send("POST", f"{made['id']}/create_flow_run", body).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(make, range(100))) == {201}
    assert api.read(made["id"]) == made and FlowRun.objects.count() == 100


def test_parameters_are_checked_with_what_is_required(api: Api) -> None:
    made = api.create(parameter_openapi_schema=NUMBER)
    missing = run(api, made, 409)
    assert missing["detail"].startswith("Error creating flow run: Validation failed. Failure reason: 'n' is a required")
    wrong = run(api, made, 409, parameters={"n": "x"})
    assert wrong["detail"].startswith("Error creating flow run: Validation failed for field 'n'.")
    run(api, made, parameters={"n": 1})
    run(api, made, parameters={"n": "x"}, enforce_parameter_schema=False)


def test_placeholders_are_filled_from_variables(api: Api) -> None:
    Variable.objects.create(name="size", value=3)
    made = api.create(parameters={"n": {"__prefect_kind": "workspace_variable", "variable_name": "size"}})
    assert run(api, made)["parameters"] == {"n": 3}
    gone = {"n": {"__prefect_kind": "workspace_variable", "variable_name": "gone"}}
    refused = run(api, made, 400, parameters=gone)
    assert refused == {"detail": "Error hydrating flow run parameters: Variable 'gone' not found in workspace."}


def test_job_variables_are_checked_with_what_is_required(api: Api) -> None:
    made = api.create(work_pool_name=typed_pool().name)
    text = "Error creating flow run: Validation failed. Failure reason: 'image' is a required property"
    assert run(api, made, 422) == {"detail": text}
    run(api, made, job_variables={"image": "x"})


def test_another_queue_of_the_pool_is_made_and_needs_a_pool(api: Api) -> None:  # E16
    pool = factories.work_pool()
    made = api.create(work_pool_name=pool.name)
    created = run(api, made, work_queue_name="fast")
    assert created["work_queue_id"] == str(WorkQueue.objects.get(work_pool=pool, name="fast").pk)
    assert api.read(made["id"])["work_queue_name"] == "default"
    alone = api.create(name="alone")
    assert run(api, alone, 400, work_queue_name="fast") == {
        "detail": f"Cannot create flow run in work queue fast because deployment {alone['id']} is not associated with "
        "a work pool. Please remove work_pool_name and try again."
    }


def test_a_bulk_reports_each_item_in_order_and_keeps_the_good_ones(api: Api) -> None:
    made = api.create(parameter_openapi_schema=NUMBER)
    good, bad, lone, hit = bulk(
        api,
        made,
        [
            {"parameters": {"n": 1}, "idempotency_key": "k"},
            {"parameters": {"n": "x"}},
            {"parameters": {"n": 1}, "work_queue_name": "q"},
            {"parameters": {"n": 1}, "idempotency_key": "k"},
        ],
    )
    assert good == hit and good["status"] == "CREATED" and good["error"] is None
    assert (bad["flow_run_id"], bad["status"]) == (None, "FAILED")
    assert bad["error"].startswith("Parameter validation failed: Validation failed for field 'n'.")
    assert lone["error"] == ("Cannot create flow run in work queue q because deployment is not associated with a work pool.")
    assert [str(key) for key in FlowRun.objects.values_list("pk", flat=True)] == [good["flow_run_id"]]


def test_a_bulk_may_be_empty_but_not_too_long_nor_of_an_unknown_deployment(api: Api) -> None:
    made = api.create()
    assert bulk(api, made, []) == []
    answer = api.send("POST", f"{made['id']}/create_flow_run/bulk", [{}] * 101)
    assert (answer.status_code, answer.json()) == (400, {"detail": "Cannot create more than 100 flow runs at once."})
    assert api.send("POST", f"{uuid4()}/create_flow_run/bulk", []).status_code == 404
    assert api.send("POST", f"{made['id']}/create_flow_run/bulk", {}).status_code == 422


def test_runs_are_planned_on_request_also_for_a_paused_deployment(api: Api) -> None:
    made = api.create(paused=True, schedules=[{"schedule": HOURLY}])
    body = {"start_time": "2026-01-01T00:00:00", "end_time": "2026-01-01T04:30:00", "min_runs": 100}
    answer = api.send("POST", f"{made['id']}/schedule", body)
    assert (answer.status_code, answer.json()) == (200, None)
    hours = sorted(moment.hour for moment in FlowRun.objects.values_list("expected_start_time", flat=True))
    assert hours == [0, 1, 2, 3, 4]
    assert api.send("POST", f"{uuid4()}/schedule", {}).status_code == 200
    assert api.send("POST", f"{made['id']}/schedule", {"min_time": -1}).status_code == 422


def poll(api: Api, keys: list[str], **body: Any) -> Any:
    answer = api.send("POST", "get_scheduled_flow_runs", {"deployment_ids": keys, **body})
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_runner_gets_due_runs_earliest_first_also_of_paused_deployments(api: Api) -> None:
    made, other = api.create(paused=True), api.create(name="other")
    later, late = planned(made, hours=2), planned(made, hours=-2, state_name="Late")
    planned(other, hours=-1)
    planned(made, hours=-1, state="RUNNING")
    keys = [made["id"], str(uuid4())]
    assert [row["id"] for row in poll(api, keys)] == [str(late.pk), str(later.pk)]
    assert [row["id"] for row in poll(api, keys, scheduled_before=timezone.now().isoformat())] == [str(late.pk)]
    assert len(poll(api, keys, limit=1)) == 1 and poll(api, keys, limit=0) == [] and poll(api, []) == []
    assert api.send("POST", "get_scheduled_flow_runs", {}).status_code == 422
    assert api.send("POST", "get_scheduled_flow_runs", {"deployment_ids": keys, "limit": 201}).status_code == 422


def test_a_poll_marks_ready_once_in_five_seconds_and_leaves_updated(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY}])
    poll(api, [made["id"]])
    ready = api.read(made["id"])
    assert ready["status"] == "READY" and ready["last_polled"] and ready["updated"] == made["updated"]
    poll(api, [made["id"]])
    assert api.read(made["id"]) == ready
    assert queries(lambda: poll(api, [made["id"]])) == 2
    before = timezone.now() - timedelta(seconds=6)
    Deployment.objects.filter(pk=made["id"]).update(last_polled=before)
    poll(api, [made["id"]])
    assert Deployment.objects.get(pk=made["id"]).last_polled > before

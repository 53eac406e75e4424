"""Artifacts, run inputs, saved searches and logs, as clients use them."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flowruns.models import Artifact, LatestArtifact
from tests.api import call, get, post
from tests.factories import flow, flow_run, task_run

pytestmark = pytest.mark.django_db


def artifact(**body: Any) -> Any:
    status, made = post("/artifacts/", body)
    assert status == 201, made
    return made


def latest(key: str) -> Any:
    return get(f"/artifacts/{key}/latest")


def test_the_newest_of_a_key_is_its_latest() -> None:
    first = artifact(key="report", type="markdown", data="one", description="d")
    row = latest("report")[1]
    assert (row["data"], row["key"]) == ("one", "report")
    assert row["id"] != first["id"]
    second = artifact(key="report", type="table", data=[1])
    again = latest("report")[1]
    assert (again["id"], again["data"], again["type"], again["description"]) == (row["id"], [1], "table", "d")
    found = post("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["report"]}}})[1]
    assert [item["latest_id"] for item in found] == [second["id"]]
    assert post("/artifacts/latest/count")[1] == 1
    assert post("/artifacts/count")[1] == 2


def test_a_change_to_the_latest_shows_everywhere() -> None:
    old, new = artifact(key="k", data=1), artifact(key="k", data=2)
    assert call("PATCH", f"/artifacts/{new['id']}", {"data": 3, "metadata_": {"a": "b"}})[0] == 204
    assert call("PATCH", f"/artifacts/{old['id']}", {"data": 9})[0] == 204
    assert (get(f"/artifacts/{new['id']}")[1]["metadata_"], latest("k")[1]["data"]) == ({"a": "b"}, 3)
    assert call("PATCH", f"/artifacts/{new['id']}", {"key": "x"})[0] == 422
    assert call("PATCH", f"/artifacts/{uuid4()}", {"data": 1})[0] == 404


def test_without_the_latest_the_one_before_it_is() -> None:
    old, new = artifact(key="k", data=1), artifact(key="k", data=2)
    assert call("DELETE", f"/artifacts/{new['id']}")[0] == 204
    assert latest("k")[1]["data"] == 1
    assert call("DELETE", f"/artifacts/{old['id']}")[0] == 204
    assert latest("k") == (404, {"detail": "Artifact not found."})
    assert call("DELETE", f"/artifacts/{old['id']}")[0] == 404
    assert not LatestArtifact.objects.exists()


@pytest.mark.parametrize("wrong", [{"key": "No Key"}, {"metadata_": {"a": 5}}, {"flow_run_id": "x"}, {"extra": 1}])
def test_an_artifact_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    assert post("/artifacts/", wrong)[0] == 422
    assert not Artifact.objects.exists()


def test_long_metadata_is_cut() -> None:
    assert artifact(metadata_={"a": "x" * 600})["metadata_"] == {"a": "x" * 500 + "..."}


def test_artifacts_are_found_by_what_made_them() -> None:
    run = flow_run(flow=flow("etl"))
    task = task_run(flow_run=run)
    of_task = artifact(type="table", flow_run_id=str(run.pk), task_run_id=str(task.pk))["id"]
    artifact(type="markdown"), artifact()

    def found(**asked: Any) -> list[str]:
        return [item["id"] for item in post("/artifacts/filter", asked)[1]]

    assert found(flows={"name": {"any_": ["etl"]}}) == [of_task]
    assert found(task_runs={"id": {"any_": [str(task.pk)]}}) == [of_task]
    assert found(artifacts={"type": {"not_any_": ["markdown"]}}) == [of_task]
    assert found(artifacts={"flow_run_id": {"any_": [str(run.pk)]}, "key": {"exists_": False}}) == [of_task]
    assert len(found(sort="KEY_ASC", limit=2)) == 2
    with CaptureQueriesContext(connection) as queries:
        found()
    assert len(queries) == 1


def test_the_result_of_a_state_is_an_artifact() -> None:
    run = flow_run("RUNNING")
    data = {"type": "reference", "storage_key": "x", "artifact_key": "res", "artifact_type": "result"}
    post(f"/flow_runs/{run.pk}/set_state", {"state": {"type": "COMPLETED", "data": data}})
    kept = Artifact.objects.get()
    assert (kept.key, kept.type, kept.flow_run_id) == ("res", "result", run.pk)
    assert kept.data == {"type": "reference", "storage_key": "x"}
    unkept = flow_run("RUNNING")
    post(f"/flow_runs/{unkept.pk}/set_state", {"state": {"type": "COMPLETED", "data": {"type": "unpersisted"}}})
    assert Artifact.objects.count() == 1


def test_inputs_are_handed_over_once_and_read_as_they_are() -> None:
    run = flow_run("RUNNING").pk
    assert post(f"/flow_runs/{run}/input", {"key": "a-1", "value": '{"x": "ü"}', "sender": "me"}) == (201, None)
    assert post(f"/flow_runs/{run}/input", {"key": "a-1", "value": ""})[0] == 409
    assert post(f"/flow_runs/{uuid4()}/input", {"key": "a", "value": ""}) == (404, {"detail": "Flow run not found"})
    assert post(f"/flow_runs/{run}/input", {"key": "No!", "value": ""})[0] == 422
    answer = Client().get(f"/api/flow_runs/{run}/input/a-1")
    assert (answer["Content-Type"], answer.content.decode()) == ("text/plain; charset=utf-8", '{"x": "ü"}')
    for i in range(2, 4):
        post(f"/flow_runs/{run}/input", {"key": f"a-{i}", "value": str(i)})
    page = {"prefix": "a-", "limit": 5, "exclude_keys": ["a-2"]}
    assert [item["key"] for item in post(f"/flow_runs/{run}/input/filter", page)[1]] == ["a-1", "a-3"]
    assert [item["sender"] for item in post(f"/flow_runs/{run}/input/filter", {"prefix": "a"})[1]] == ["me"]
    assert post(f"/flow_runs/{run}/input/filter", {"prefix": "%"})[1] == []
    assert call("DELETE", f"/flow_runs/{run}/input/a-1")[0] == 204
    assert get(f"/flow_runs/{run}/input/a-1") == (404, {"detail": "Flow run input not found"})
    assert call("DELETE", f"/flow_runs/{run}") == (204, None)


def paused(**details: Any) -> str:
    run = flow_run("RUNNING")
    state = {"type": "PAUSED", "state_details": {"pause_timeout": (timezone.now() + timedelta(hours=1)).isoformat(), **details}}
    assert post(f"/flow_runs/{run.pk}/set_state", {"state": state})[1]["status"] == "ACCEPT"
    return str(run.pk)


def test_a_paused_run_goes_on() -> None:
    key = paused()
    status, body = call("POST", f"/flow_runs/{key}/resume")
    assert (status, body["status"], body["state"]["name"]) == (201, "ACCEPT", "Running")
    status, body = post(f"/flow_runs/{key}/resume", {"run_input": {}})
    assert (status, body["status"], body["state"]) == (200, "ABORT", None)
    assert body["details"]["reason"] == "Cannot resume a flow run that is not paused."
    assert call("POST", f"/flow_runs/{uuid4()}/resume")[0] == 404


def test_a_run_that_asked_for_input_gets_what_fits() -> None:
    keyset = {"schema": "in-schema", "response": "in-response"}
    key = paused(run_input_keyset=keyset)

    def resume(**given: Any) -> tuple[str, str]:
        body = post(f"/flow_runs/{key}/resume", {"run_input": given})[1]
        return body["status"], body["details"].get("reason", "")

    assert resume(age=5) == ("REJECT", "Run input schema not found.")
    post(f"/flow_runs/{key}/input", {"key": "in-schema", "value": "{"})
    assert resume(age=5) == ("REJECT", "Run input schema is not valid JSON.")
    call("DELETE", f"/flow_runs/{key}/input/in-schema")
    schema = '{"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}'
    post(f"/flow_runs/{key}/input", {"key": "in-schema", "value": schema})
    status, reason = resume(age="old")
    assert (status, reason.startswith("Reason: Validation failed")) == ("REJECT", True)
    assert resume(age={"__prefect_kind": "json", "value": "{"})[1].startswith("Error hydrating run input: Invalid JSON")
    assert get(f"/flow_runs/{key}")[1]["state_type"] == "PAUSED"
    assert resume(age={"__prefect_kind": "json", "value": "36"})[0] == "ACCEPT"
    assert get(f"/flow_runs/{key}/input/in-response")[1] == {"age": 36}


def test_searches_are_kept_under_their_names() -> None:
    filters = [{"object": "flow", "property": "name", "type": "string", "operation": "equals", "value": 1}]
    status, made = call("PUT", "/saved_searches/", {"name": "mine", "filters": filters})
    assert (status, made["filters"]) == (201, filters)
    status, again = call("PUT", "/saved_searches/", {"name": "mine", "filters": []})
    assert (status, again["id"], again["filters"]) == (200, made["id"], [])
    assert [item["name"] for item in post("/saved_searches/filter")[1]] == ["mine"]
    assert call("PUT", "/saved_searches/", {"name": "x", "filters": [{"object": "flow"}]})[0] == 422
    assert call("DELETE", f"/saved_searches/{made['id']}")[0] == 204
    assert get(f"/saved_searches/{made['id']}") == (404, {"detail": "Saved search not found"})


def line(run: Any, message: str, **more: Any) -> dict[str, Any]:
    at = more.pop("at", timezone.now()).isoformat()
    return {"name": "n", "level": 20, "message": message, "timestamp": at, "flow_run_id": str(run), **more}


def test_the_log_of_a_run_is_a_file(client: Client) -> None:
    run = flow_run(name="brisk otter").pk
    now = timezone.now()
    lines = [line(run, f'line {i}, with "quotes"\nand =more', at=now + timedelta(seconds=i)) for i in range(3)]
    assert post("/logs/", [*lines, line(uuid4(), "another's")]) == (201, None)
    answer = client.get(f"/api/flow_runs/{run}/logs/download")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "filename*=UTF-8''brisk%20otter-logs.csv" in answer["Content-Disposition"]
    text = b"".join(answer).decode()  # type: ignore[arg-type]
    assert text.startswith("timestamp,level,flow_run_id,task_run_id,message\r\n")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[4] for row in rows[1:]] == [f'line {i}, with "quotes"\nand =more' for i in range(3)]
    assert rows[1][1:4] == ["20", str(run), ""]
    assert get(f"/flow_runs/{uuid4()}/logs/download") == (404, {"detail": "Flow run not found"})


def test_lines_come_in_any_number_in_one_statement() -> None:
    run = flow_run().pk
    counts = []
    for number in (1, 700):
        with CaptureQueriesContext(connection) as queries:
            assert post("/logs/", [line(run, f"{i}\u0000") for i in range(number)])[0] == 201
        counts.append(len({query["sql"][:20] for query in queries}))
    assert counts[0] == counts[1]
    assert post("/logs/", []) == (201, None)
    body = {"logs": {"flow_run_id": {"any_": [str(run)]}}, "sort": "TIMESTAMP_DESC", "limit": 1}
    assert post("/logs/filter", body)[1][0]["message"] == "699"
    for wrong in ({"level": 2**20}, {"extra": 1}, {"timestamp": "x"}):
        assert post("/logs/", [line(run, "ok"), line(run, "bad") | wrong])[0] == 422
    assert post("/logs/", {"message": "x"})[0] == 422

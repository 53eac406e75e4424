"""The graph of a run: nodes, edges, subflows and artifacts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flowruns.models import FlowRun, TaskRun
from tests.api import get, post
from tests.factories import flow, flow_run, task_run

pytestmark = pytest.mark.django_db
NOW = timezone.now().replace(microsecond=0)


def task(run: FlowRun, name: str, seconds: float, *parents: TaskRun, around: tuple[TaskRun, ...] = (), **more: Any) -> TaskRun:
    inputs: dict[str, Any] = {"x": [{"input_type": "task_run", "id": str(parent.pk)} for parent in parents]}
    inputs["again"] = [*inputs["x"], {"input_type": "parameter", "name": "p"}, {"input_type": "constant", "type": "int"}]
    if around:
        inputs["__parents__"] = [{"input_type": "task_run", "id": str(one.pk)} for one in around]
    return task_run("COMPLETED", at=NOW + timedelta(seconds=seconds), flow_run=run, name=name, task_inputs=inputs, **more)


@pytest.fixture
def run() -> FlowRun:
    return flow_run("RUNNING", at=NOW)


def graph(run: FlowRun, since: str = "") -> dict[str, Any]:
    status, body = get(f"/flow_runs/{run.pk}/graph-v2{since}")
    assert status == 200
    return body


def nodes(run: FlowRun) -> dict[str, dict[str, Any]]:
    return {item["label"]: item for _, item in graph(run)["nodes"]}


def test_tasks_are_tied_to_what_went_into_them_once(run: FlowRun) -> None:
    first = task(run, "first", 1)
    second = task(run, "second", 2, first)
    third = task(run, "third", 3, first, second, around=(second,))
    found = graph(run)
    assert [item["label"] for _, item in found["nodes"]] == ["first", "second", "third"]
    assert found["root_node_ids"] == [str(first.pk)]
    shown = nodes(run)
    assert shown["first"]["children"] == [{"id": str(second.pk)}, {"id": str(third.pk)}]
    assert shown["third"]["parents"] == [{"id": str(first.pk)}, {"id": str(second.pk)}]
    assert shown["third"]["encapsulating"] == [{"id": str(second.pk)}]
    assert (shown["first"]["kind"], shown["first"]["state_type"]) == ("task-run", "COMPLETED")
    assert [state["name"] for state in found["states"]] == ["Running"]


def test_a_subflow_stands_in_the_place_of_its_task(run: FlowRun) -> None:
    parent = task(run, "stands for it", 1)
    after = task(run, "after", 2, parent)
    child = flow_run("RUNNING", at=NOW, name="otter", flow=flow("inner"), parent_task_run=parent)
    shown = nodes(run)
    assert shown["inner / otter"]["id"] == str(child.pk)
    assert shown["inner / otter"]["kind"] == "flow-run"
    assert shown["inner / otter"]["end_time"] is None
    assert shown["inner / otter"]["children"] == [{"id": str(after.pk)}]
    assert shown["after"]["parents"] == [{"id": str(child.pk)}]


def test_only_what_still_runs_or_ended_since_is_shown(run: FlowRun) -> None:
    task(run, "old", 1)
    task(run, "new", 10)
    since = (NOW + timedelta(seconds=5)).isoformat().replace("+", "%2B")
    assert [item["label"] for _, item in graph(run, f"?since={since}")["nodes"]] == ["new"]
    assert get(f"/flow_runs/{run.pk}/graph-v2?since=soon")[0] == 422


def test_artifacts_hang_on_who_made_them(run: FlowRun) -> None:
    maker = task(run, "maker", 1)
    for body in (
        {"key": "k", "type": "markdown", "data": "old", "task_run_id": str(maker.pk)},
        {"key": "k", "type": "markdown", "data": "new", "task_run_id": str(maker.pk)},
        {"type": "progress", "data": 50.0},
        {"type": "result", "data": "hidden"},
        {"data": "without a type"},
    ):
        assert post("/artifacts/", {"flow_run_id": str(run.pk), **body})[0] == 201
    found = graph(run)
    assert [(item["type"], item["data"], item["is_latest"]) for item in found["artifacts"]] == [("progress", 50.0, True)]
    assert [(item["data"], item["is_latest"]) for item in nodes(run)["maker"]["artifacts"]] == [(None, False), (None, True)]


def test_a_graph_costs_the_same_number_of_queries_whatever_its_size(run: FlowRun) -> None:
    counts = []
    for number in (1, 20):
        for i in range(number):
            task(run, f"t{number}-{i}", i)
        with CaptureQueriesContext(connection) as queries:
            graph(run)
        counts.append(len(queries))
    assert counts[0] == counts[1] == 5


def test_a_graph_that_is_too_large_is_refused(run: FlowRun, settings: Any) -> None:
    settings.GRAPH_MAX_NODES = 2
    for i in range(3):
        task(run, f"t{i}", i)
    status, body = get(f"/flow_runs/{run.pk}/graph-v2")
    assert (status, body["detail"]) == (400, f"The graph of flow run {run.pk} has more than 2 nodes.")


def test_the_older_graph_lists_tasks_with_what_they_need(run: FlowRun) -> None:
    first = task(run, "first", 1)
    task(run, "second", 2, first)
    status, found = get(f"/flow_runs/{run.pk}/graph")
    by_name = {item["name"]: item for item in found}
    assert status == 200
    assert by_name["second"]["upstream_dependencies"] == [{"input_type": "task_run", "id": str(first.pk)}]
    assert by_name["first"]["untrackable_result"] is False


def test_no_run_no_graph() -> None:
    for path in ("graph", "graph-v2"):
        status, body = get(f"/flow_runs/3f9d3a70-0000-4000-8000-000000000000/{path}")
        assert (status, list(body)) == (404, ["exception_message"])

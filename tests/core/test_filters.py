"""What each wire operator keeps, on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from tests.factories import deployment, flow, flow_run, task_run, work_pool

pytestmark = pytest.mark.django_db


def post(client: Client, path: str, body: Any) -> Any:
    response = client.post(f"/api{path}", json.dumps(body), content_type="application/json")
    assert response.status_code == 200, response.content
    return response.json()


def names(client: Client, path: str, **body: Any) -> list[str]:
    return [row["name"] for row in post(client, path, body)]


def flows(client: Client, **criteria: Any) -> list[str]:
    return names(client, "/flows/filter", flows=criteria)


@pytest.fixture
def three_flows() -> None:
    flow("alpha", tags=["a", "b"])
    flow("Beta", tags=["b"])
    flow("gamma", tags=[])


@pytest.mark.usefixtures("three_flows")
@pytest.mark.parametrize(
    ("criteria", "kept"),
    [
        ({"name": {"any_": ["alpha", "gamma"]}}, ["alpha", "gamma"]),
        ({"name": {"any_": []}}, []),
        ({"name": {"any_": None}}, ["Beta", "alpha", "gamma"]),
        ({"name": {"like_": "ET"}}, ["Beta"]),
        ({"name": {"like_": ""}}, ["Beta", "alpha", "gamma"]),
        ({"name": {"like_": "a%a"}}, ["alpha", "gamma"]),
        ({"name": {"like_": "alph_"}}, ["alpha"]),
        ({"tags": {"all_": ["b"]}}, ["Beta", "alpha"]),
        ({"tags": {"all_": ["a", "b"]}}, ["alpha"]),
        ({"tags": {"all_": []}}, ["Beta", "alpha", "gamma"]),
        ({"tags": {"is_null_": True}}, ["gamma"]),
        ({"tags": {"is_null_": False}}, ["Beta", "alpha"]),
        ({"tags": {"operator": "or_", "all_": ["a"], "is_null_": True}}, ["alpha", "gamma"]),
        ({"operator": "or_", "name": {"any_": ["gamma"]}, "tags": {"all_": ["a"]}}, ["alpha", "gamma"]),
        ({"operator": "or_", "name": {"any_": ["gamma"]}, "tags": {}}, ["Beta", "alpha", "gamma"]),
        ({"id": {"not_any_": []}}, ["Beta", "alpha", "gamma"]),
        ({"deployment": {"is_null_": True}}, ["Beta", "alpha", "gamma"]),
        ({"deployment": {"is_null_": False}}, []),
    ],
)
def test_flows_are_kept_as_the_wire_says(client: Client, criteria: dict[str, Any], kept: list[str]) -> None:
    assert sorted(flows(client, **criteria)) == kept
    assert post(client, "/flows/count", {"flows": criteria}) == len(kept)


def test_two_related_filters_must_match_the_same_row(client: Client) -> None:
    pool = work_pool("ours")
    one, other = flow("one"), flow("other")
    deployment("inside", flow=one, work_queue=pool.default_queue)
    deployment("inside", flow=other)
    deployment("outside", flow=other, work_queue=pool.default_queue)
    body = {"deployments": {"name": {"any_": ["inside"]}}, "work_pools": {"name": {"any_": ["ours"]}}}
    assert names(client, "/flows/filter", **body) == ["one"]


def test_an_empty_related_filter_still_asks_for_the_relation(client: Client) -> None:
    flow("bare")
    flow_run(flow=flow("run"), name="r")
    assert names(client, "/flows/filter", flow_runs={}) == ["run"]
    assert names(client, "/flow_runs/filter", deployments={}) == []
    assert names(client, "/flow_runs/filter", flows={}) == ["r"]


def test_a_null_is_neither_in_a_list_nor_outside_of_it(client: Client) -> None:
    flow_run(name="keyed", idempotency_key="k")
    flow_run(name="free")
    assert names(client, "/flow_runs/filter", flow_runs={"idempotency_key": {"not_any_": ["x"]}}) == ["keyed"]


def test_start_time_falls_back_to_the_expected_one_but_its_absence_does_not(client: Client) -> None:
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    flow_run("SCHEDULED", name="waits", at=noon)
    flow_run("COMPLETED", name="done", at=noon - timedelta(hours=2))
    window = {"after_": "2026-05-01T11:00:00Z", "before_": "2026-05-01T12:00:00Z"}
    assert names(client, "/flow_runs/filter", flow_runs={"start_time": window}) == ["waits"]
    assert names(client, "/flow_runs/filter", flow_runs={"start_time": {"is_null_": True}}) == ["waits"]


def test_a_state_with_both_lists_is_left_out(client: Client) -> None:
    flow_run("COMPLETED", name="c")
    flow_run("FAILED", name="f")
    both = {"type": {"any_": ["COMPLETED"], "not_any_": ["COMPLETED"]}}
    assert sorted(names(client, "/flow_runs/filter", flow_runs={"state": both})) == ["c", "f"]
    assert names(client, "/flow_runs/filter", flow_runs={"state": {"type": {"not_any_": ["FAILED"]}}}) == ["c"]
    empty = {"operator": "or_", "type": {}, "name": {"any_": ["Failed"]}}
    assert names(client, "/flow_runs/filter", flow_runs={"state": empty}) == ["f"]


def test_task_runs_without_a_flow_run_are_found_only_when_asked_for(client: Client) -> None:
    task_run(name="alone")
    task_run(name="inside", flow_run=flow_run())
    assert names(client, "/task_runs/filter", task_runs={"flow_run_id": {}}) == ["inside"]
    assert names(client, "/task_runs/filter", task_runs={"flow_run_id": {"is_null_": True}}) == ["alone"]
    assert sorted(names(client, "/task_runs/filter", task_runs={"flow_run_id": {"is_null_": None}})) == [
        "alone",
        "inside",
    ]
    assert names(client, "/task_runs/filter", flows={}) == ["inside"]


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        ({"flows": {"nome": {}}}, "extra_forbidden"),
        ({"flows": {"name": {"any": []}}}, "extra_forbidden"),
        ({"flows": {"id": {"any_": ["x"]}}}, "uuid_parsing"),
        ({"flows": {"operator": "OR_"}}, "literal_error"),
        ({"flows": {"name": {"like_": "x" * 2000}}}, "string_too_long"),
        ({"flows": {"name": {"like_": "%a" * 100}}}, "value_error"),
        ({"flows": {"name": {"any_": ["x"] * 20_000}}}, "too_long"),
        ({"sort": "name; DROP TABLE"}, "enum"),
        ({"offset": -1}, "greater_than_equal"),
        ({"offset": 2**70}, "less_than_equal"),
    ],
)
def test_what_does_not_fit_is_named(client: Client, body: dict[str, Any], type_: str) -> None:
    response = client.post("/api/flows/filter", json.dumps(body), content_type="application/json")
    assert response.status_code == 422
    assert type_ in {item["type"] for item in response.json()["exception_detail"]}


def test_limits_are_bounded(client: Client) -> None:
    for limit, text in ((-1, "greater than or equal to 0"), (201, "less than or equal to 200")):
        response = client.post("/api/flows/filter", json.dumps({"limit": limit}), content_type="application/json")
        assert (response.status_code, text in response.json()["detail"]) == (422, True)
    assert post(client, "/flows/filter", {"limit": 0}) == []


def test_pages_are_counted_and_never_overlap(client: Client) -> None:
    for _ in range(5):
        flow_run(name="same")
    pages = [post(client, "/flow_runs/paginate", {"limit": 2, "page": page, "sort": "NAME_ASC"}) for page in (1, 2, 3, 4)]
    assert [len(page["results"]) for page in pages] == [2, 2, 1, 0]
    assert {(page["count"], page["pages"]) for page in pages} == {(5, 3)}
    assert len({run["id"] for page in pages for run in page["results"]}) == 5
    assert post(client, "/flow_runs/paginate", {"limit": 0})["pages"] == 0


@pytest.mark.parametrize("path", ["/flows/filter", "/flow_runs/filter", "/task_runs/filter"])
def test_a_page_costs_one_query_whatever_its_length(client: Client, path: str, django_assert_num_queries: Any) -> None:
    for _ in range(12):
        task_run(flow_run=flow_run("RUNNING"))
    post(client, path, {})
    for limit in (1, 12):
        with django_assert_num_queries(1):
            assert len(post(client, path, {"limit": limit})) == limit

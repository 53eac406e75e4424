"""Filters and pages at their edges."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.factories import deployment, flow, flow_run

pytestmark = pytest.mark.django_db


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(f"/api{path}", json.dumps(body), content_type="application/json")


def names(client: Client, **body: Any) -> list[str]:
    response = post(client, "/flows/filter", body)
    assert response.status_code == 200, response.content
    return [row["name"] for row in response.json()]


@pytest.mark.parametrize(
    ("criteria", "kept"),
    [
        ({}, ["a", "b"]),
        ({"name": {}}, ["a", "b"]),
        ({"id": {"any_": []}}, []),
        ({"name": {"any_": []}}, []),
        ({"name": {"like_": ""}}, ["a", "b"]),
        ({"tags": {"all_": []}}, ["a", "b"]),
    ],
)
def test_an_empty_filter_means_what_the_wire_says(client: Client, criteria: dict[str, Any], kept: list[str]) -> None:
    """G02."""
    flow("a")
    flow("b")
    with CaptureQueriesContext(connection) as queries:
        assert names(client, flows=criteria, sort="NAME_ASC") == kept
    assert not any("'%%'" in query["sql"] for query in queries)


def test_wildcards_of_a_pattern_are_the_wires(client: Client) -> None:
    """G03."""
    for name in ("one-two", "onextwo", "three"):
        flow(name)
    assert names(client, flows={"name": {"like_": "one_two"}}, sort="NAME_ASC") == ["one-two", "onextwo"]
    assert names(client, flows={"name": {"like_": "o%o"}}, sort="NAME_ASC") == ["one-two", "onextwo"]


@pytest.mark.parametrize("pattern", ["x" * 100_000, "%a" * 50_000, "%" * 500])
def test_a_pattern_that_would_cost_much_is_refused(client: Client, pattern: str) -> None:
    """G03."""
    assert post(client, "/flows/filter", {"flows": {"name": {"like_": pattern}}}).status_code == 422


@pytest.mark.parametrize("path", ["/flows/filter", "/flows/count"])
def test_fifty_thousand_ids_are_taken_or_refused(client: Client, path: str) -> None:
    """G04."""
    known = flow("known")
    ids = [str(uuid4()) for _ in range(50_000)] + [str(known.pk)]
    assert post(client, path, {"flows": {"id": {"any_": ids}}}).status_code in {200, 422}
    few = post(client, path, {"flows": {"id": {"any_": ids[-1_000:]}}})
    assert few.status_code == 200
    assert few.json() == 1 if path.endswith("count") else [row["name"] for row in few.json()] == ["known"]


def test_keys_outside_a_long_list_are_kept(client: Client) -> None:
    """G04: a long list of keys takes another way to the database than a short one."""
    first, second = flow_run(), flow_run()
    without = {"flow_runs": {"id": {"not_any_": [str(uuid4()) for _ in range(500)] + [str(first.pk)]}}}
    assert [row["id"] for row in post(client, "/flow_runs/filter", without).json()] == [str(second.pk)]


@pytest.mark.parametrize("sort", ["name; DROP TABLE x", "NOPE", "", 5, None])
def test_an_unknown_sort_is_refused(client: Client, sort: Any) -> None:
    """G05."""
    assert post(client, "/flow_runs/filter", {"sort": sort}).status_code == (200 if sort is None else 422)


def test_a_filter_nested_a_thousand_times_is_refused(client: Client) -> None:
    """G06."""
    body = '{"flows":' + '{"operator":"or_","name":' * 1_000 + "{}" + "}" * 1_001
    response = client.post("/api/flows/filter", body, content_type="application/json")
    assert response.status_code == 422


@pytest.mark.parametrize(("limit", "status"), [(0, 200), (200, 200), (201, 422), (-1, 422), (10**30, 422)])
def test_a_page_has_its_bounds(client: Client, limit: int, status: int) -> None:
    """G06."""
    for path in ("/flows/filter", "/deployments/filter", "/flow_runs/filter", "/task_runs/filter"):
        assert post(client, path, {"limit": limit}).status_code == status, path


def test_rows_that_come_and_go_while_paging_break_nothing(client: Client) -> None:
    """G08: by offset a row may be missed, but none is ever broken and no page fails."""
    rows = [deployment(f"d{i}", flow=None) for i in range(6)]
    first = post(client, "/deployments/paginate", {"limit": 2, "page": 1}).json()
    rows[0].delete()
    deployment("d00")
    second = post(client, "/deployments/paginate", {"limit": 2, "page": 2}).json()
    assert len(first["results"]) == len(second["results"]) == 2
    assert not {row["id"] for row in first["results"]} & {row["id"] for row in second["results"]} - {str(rows[1].pk)}


@pytest.mark.parametrize("resource", ["flows", "deployments", "flow_runs"])
def test_every_way_to_count_agrees(client: Client, resource: str) -> None:
    """G09."""
    for i in range(5):
        flow_run(deployment=deployment(f"d{i}", tags=["x"] if i % 2 else []))
    wanted = {"deployments": {"tags": {"all_": ["x"]}}}
    count = post(client, f"/{resource}/count", wanted).json()
    pages = post(client, f"/{resource}/paginate", wanted | {"limit": 1}).json()
    rows = [post(client, f"/{resource}/paginate", wanted | {"limit": 1, "page": n + 1}).json()["results"] for n in range(count)]
    listed = post(client, f"/{resource}/filter", wanted).json()
    assert count == pages["count"] == pages["pages"] == len(listed) == sum(map(len, rows)) == 2
    assert {row["id"] for page in rows for row in page} == {row["id"] for row in listed}

"""Events over HTTP: stored once, filtered, paged and counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestrator.events.filters import EventFilter
from orchestrator.events.models import Event
from orchestrator.events.services import EventRetention
from tests.api import get, post

pytestmark = pytest.mark.django_db


def event(name: str = "shop.sold", resource: str = "shop.1", ago: float = 0, **more: Any) -> dict[str, Any]:
    labels = more.pop("labels", {})
    return {
        "id": str(uuid4()),
        "occurred": (timezone.now() - timedelta(seconds=ago)).isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": resource, **labels},
        **more,
    }


def store(*events: dict[str, Any]) -> None:
    assert post("/events", list(events)) == (204, None)


def found(**asked: Any) -> list[str]:
    """The names of the resources of the events that match, oldest first."""
    status, body = post("/events/filter", {"filter": {"order": "ASC", **asked}})
    assert status == 200, body
    assert body["total"] == len(body["events"])
    return [item["resource"]["prefect.resource.id"] for item in body["events"]]


def test_an_event_reads_back_as_it_was_sent() -> None:
    follows = str(uuid4())
    role = {"prefect.resource.id": "who.1", "prefect.resource.role": "buyer"}
    sent = event(related=[role], payload={"n": 2**70, "text": "ü"}, follows=follows, unknown="ignored")
    store(sent)
    (back,) = post("/events/filter")[1]["events"]
    received = back.pop("received")
    assert datetime.fromisoformat(received) - datetime.fromisoformat(back["occurred"]) < timedelta(minutes=1)
    del sent["unknown"]
    sent["occurred"] = sent["occurred"].replace("+00:00", "Z")
    assert back == sent


def test_an_event_that_is_sent_again_is_stored_once() -> None:
    first, second = event(), event()
    store(first, second, first)
    store(second)
    assert Event.objects.count() == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"resource": {}},
        {"resource": {"prefect.resource.id": ""}},
        {"resource": {"prefect.resource.id": 5}},
        {"related": [{"prefect.resource.id": "x"}]},
        {"related": [{"prefect.resource.id": "x", "prefect.resource.role": "r"}] * 101},
        {"event": "x" * 1025},
        {"id": "no"},
        {"occurred": "never"},
        {"payload": []},
    ],
)
def test_one_that_is_none_is_refused_with_all_of_its_batch(broken: dict[str, Any]) -> None:
    assert post("/events", [event(), event() | broken])[0] == 422
    assert not Event.objects.exists()


def test_filters_ask_of_names_resources_and_times() -> None:
    store(
        event("shop.sold", "shop.1", 30, labels={"colour": "red"}, payload={"what": "a hat"}),
        event("shop.closed", "shop.2", 20, related=[{"prefect.resource.id": "street.9", "prefect.resource.role": "street"}]),
        event("bank.opened", "bank.1", 10, labels={"colour": "blue"}),
    )
    assert found() == ["shop.1", "shop.2", "bank.1"]
    assert found(event={"prefix": ["shop."]}) == ["shop.1", "shop.2"]
    assert found(event={"prefix": ["shop."], "exclude_name": ["shop.sold"]}) == ["shop.2"]
    assert found(event={"exclude_prefix": ["shop"]}) == ["bank.1"]
    assert found(event={"name": ["shop.sold", "none"]}) == ["shop.1"]
    assert found(resource={"id": ["shop.2"]}) == ["shop.2"]
    assert found(resource={"id_prefix": ["ba"]}) == ["bank.1"]
    assert found(resource={"labels": {"colour": ["r*", "gr?y"]}}) == ["shop.1"]
    assert found(resource={"labels": {"colour": "!red"}}) == ["bank.1"]
    assert found(resource={"labels": {"colour": []}}) == []
    assert found(resource={"labels": {"prefect.resource.id": "shop.*"}}) == ["shop.1", "shop.2"]
    assert found(related={"id": ["street.9"], "role": ["street"]}) == ["shop.2"]
    assert found(related={"id": ["street.9"], "role": ["owner"]}) == []
    assert found(related={"id": ["shop.2"]}) == []
    assert found(related={"resources_in_roles": [["street.9", "street"]]}) == ["shop.2"]
    assert found(any_resource={"id": ["shop.1"]}) == ["shop.1"]
    assert found(any_resource=[{"id_prefix": ["street"]}, {"id": ["shop.2"]}]) == ["shop.2"]
    assert found(text={"query": "HAT -bank"}) == ["shop.1"]
    assert found(text={"query": "+shop +closed"}) == ["shop.2"]
    assert found(occurred={"since": (timezone.now() - timedelta(seconds=15)).isoformat()}) == ["bank.1"]
    assert found(id={"id": []}) == ["shop.1", "shop.2", "bank.1"]


def test_what_like_takes_for_a_wildcard_is_a_character() -> None:
    store(event(resource="a_b", labels={"x": "50%"}), event(resource="aXb", labels={"x": "50 %"}))
    assert found(resource={"labels": {"prefect.resource.id": "a_*"}}) == ["a_b"]
    assert found(resource={"labels": {"x": "*0%"}}) == ["a_b"]


def test_of_each_resource_the_first_is_enough() -> None:
    store(event(resource="a", ago=3), event(resource="b", ago=2), event(resource="a", ago=1))
    assert found(resource={"distinct": True}) == ["a", "b"]
    body = post("/events/filter", {"filter": {"resource": {"distinct": True}}})[1]
    assert [item["resource"]["prefect.resource.id"] for item in body["events"]] == ["a", "b"]


@pytest.mark.parametrize(
    "asked", [{"operator": "and_"}, {"event": {"like": "x"}}, {"text": {"query": "x" * 201}}, {"occurred": None}, {"order": "UP"}]
)
def test_a_filter_that_is_none_is_refused(asked: dict[str, Any]) -> None:
    assert post("/events/filter", {"filter": asked})[0] == 422


def test_pages_follow_each_other_and_keep_their_total() -> None:
    store(*[event(resource=f"r{i}", ago=60 - i) for i in range(5)])
    status, page = post("/events/filter", {"filter": {"event": {"name": ["shop.sold"]}}, "limit": 2})
    seen = [item["resource"]["prefect.resource.id"] for item in page["events"]]
    while page["next_page"]:
        assert page["next_page"].startswith("http://testserver/api/events/filter/next?page-token=")
        store(event(ago=0))  # newer ones do not change the pages that were begun
        page = get(page["next_page"].removeprefix("http://testserver/api"))[1]
        assert page["total"] == 5
        seen += [item["resource"]["prefect.resource.id"] for item in page["events"]]
    assert (status, seen) == (200, ["r4", "r3", "r2", "r1", "r0"])


def test_a_page_token_that_was_not_given_out_is_forbidden() -> None:
    assert get("/events/filter/next?page-token=bm9uc2Vuc2U=") == (403, {"detail": "Forbidden"})
    assert get("/events/filter/next")[0] == 422
    assert post("/events/filter", {"limit": 51})[0] == 422


def test_events_are_counted_by_name_resource_and_time() -> None:
    store(
        event("a", "x", 7200, labels={"prefect.resource.name": "old"}),
        event("a", "x", 60, labels={"prefect.resource.name": "new"}),
        event("b", "y", 30),
    )
    asked = {"filter": {"occurred": {"since": (timezone.now() - timedelta(hours=3)).isoformat()}}}
    assert [(row["value"], row["count"]) for row in post("/events/count-by/event", asked)[1]] == [("a", 2), ("b", 1)]
    by_resource = post("/events/count-by/resource", asked)[1]
    assert [(row["value"], row["label"], row["count"]) for row in by_resource] == [("x", "new", 2), ("y", "y", 1)]
    hours = post("/events/count-by/time", asked | {"time_unit": "hour"})[1]
    assert sum(row["count"] for row in hours) == 3
    assert [row["value"] for row in hours] == [str(i) for i in range(len(hours))]
    assert all(a["end_time"] < b["start_time"] for a, b in pairwise(hours))
    assert hours[0]["label"].endswith(":00:00+00:00")
    assert sum(row["count"] for row in post("/events/count-by/day", asked)[1]) == 3


def test_too_many_bars_are_refused_before_they_are_counted() -> None:
    status, body = post("/events/count-by/time", {"filter": {}, "time_unit": "second"})
    assert status == 422
    assert "too many" in body["detail"]
    assert post("/events/count-by/moon", {"filter": {}})[0] == 422
    assert post("/events/count-by/event", {})[0] == 422


def test_a_page_costs_two_queries_whatever_its_size() -> None:
    store(*[event() for _ in range(30)])
    for limit in (1, 30):
        with CaptureQueriesContext(connection) as queries:
            post("/events/filter", {"limit": limit})
        assert len(queries) == 2


def test_old_events_go() -> None:
    store(event(ago=8 * 86_400), event(ago=6 * 86_400))
    EventRetention().poll()
    assert Event.objects.count() == 1


def arriving(**more: Any) -> dict[str, Any]:
    told = {"event": "shop.sold", "resource": {"prefect.resource.id": "shop.1"}, "related": [], "payload": {}, "id": uuid4()}
    return told | {"occurred": datetime.now(UTC)} | more


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        ({}, True),
        ({"event": {"name": ["shop.sold"]}}, True),
        ({"event": {"prefix": ["bank"]}}, False),
        ({"event": {"exclude_name": ["shop.sold"]}}, False),
        ({"resource": {"id_prefix": ["sho"]}}, True),
        ({"resource": {"labels": {"prefect.resource.id": "s*"}}}, True),
        ({"resource": {"labels": {"colour": "!red"}}}, False),
        ({"any_resource": {"id": ["street"]}}, False),
        ({"related": {"id": ["street"]}}, True),
        ({"id": {"id": [str(uuid4())]}}, False),
        ({"text": {"query": "shop"}}, True),
        ({"occurred": {"since": "2000-01-01T00:00:00Z", "until": "2001-01-01T00:00:00Z"}}, False),
    ],
)
def test_what_arrives_is_matched_in_memory_as_clients_expect(asked: dict[str, Any], matches: bool) -> None:
    until = {"until": "2999-01-01T00:00:00Z"}
    made = EventFilter.model_validate({"occurred": until} | asked)
    assert made.matches(arriving()) is matches

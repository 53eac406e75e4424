"""`/deployments/{id}/schedules`, and the schedules in a deployment's body."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from deployments.models import DeploymentSchedule
from orchestrator.core.databases import is_postgresql
from tests.deployments.test_api_deployments import DAILY, HOURLY, Api, five_runs, left

pytestmark = pytest.mark.django_db

PATCHED = {"cron": "0 10 * * *", "timezone": None, "day_or": True}


@pytest.fixture
def api() -> Api:
    return Api()


def slugs(api: Api, made: Any) -> dict[Any, Any]:
    return {item["slug"]: item for item in api.read(made["id"])["schedules"]}


def test_added_schedules_come_back_in_the_order_of_the_request_with_every_key(api: Api) -> None:
    made = api.create()
    items = [{"schedule": DAILY, "slug": "a", "max_scheduled_runs": 7}, {"schedule": HOURLY, "active": False}]
    answer = api.send("POST", f"{made['id']}/schedules", items)
    first, second = answer.json()
    assert answer.status_code == 201
    assert list(first) == [
        "id",
        "created",
        "updated",
        "deployment_id",
        "schedule",
        "active",
        "max_scheduled_runs",
        "parameters",
        "slug",
    ]
    assert (first["slug"], first["max_scheduled_runs"], first["active"]) == ("a", 7, True)
    assert first["schedule"] == {"cron": "0 9 * * *", "timezone": None, "day_or": True}
    assert second["schedule"] == {"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
    assert (second["active"], second["slug"], second["parameters"]) == (False, None, {})
    assert api.send("GET", f"{made['id']}/schedules").json() == [second, first]
    assert api.read(made["id"])["updated"] == made["updated"]


def test_a_slug_is_taken_once_in_a_deployment(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY, "slug": "a"}])
    answer = api.send("POST", f"{made['id']}/schedules", [{"schedule": HOURLY}, {"schedule": DAILY, "slug": "a"}])
    assert answer.status_code == 409
    expected = "Schedule slugs must be unique within a deployment." if is_postgresql() else "Data integrity conflict."
    assert answer.json()["detail"].startswith(expected)
    assert len(api.read(made["id"])["schedules"]) == 1


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"schedule": {}},
        {"schedule": {"cron": "61 * * * *"}},
        {"schedule": DAILY | {"interval": 5}},
        {"schedule": DAILY, "max_scheduled_runs": 51},
        {"schedule": DAILY, "max_scheduled_runs": 0},
        {"schedule": DAILY, "unknown": 1},
        {"schedule": DAILY, "identity": str(uuid4())},
    ],
)
def test_a_schedule_that_is_none_is_refused(api: Api, item: Any) -> None:
    made = api.create()
    assert api.send("POST", f"{made['id']}/schedules", [item]).status_code == 422
    assert api.send("POST", f"{made['id']}/schedules", item).status_code == 422
    assert api.read(made["id"])["schedules"] == []


def test_a_changed_schedule_keeps_what_is_null_but_loses_its_parameters(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY, "slug": "a", "parameters": {"x": 1}}])
    runs = five_runs(made)
    schedule = made["schedules"][0]
    path = f"{made['id']}/schedules/{schedule['id']}"
    assert api.send("PATCH", path, {"active": False, "slug": None, "schedule": None}).status_code == 204
    after = api.read(made["id"])["schedules"][0]
    assert after == schedule | {"updated": after["updated"], "active": False, "parameters": {}}
    assert left() == set(runs.values()) - {runs["future"]}
    assert api.read(made["id"])["updated"] == made["updated"]


def test_a_deleted_schedule_takes_late_planned_runs_too(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY}])
    runs = five_runs(made)
    path = f"{made['id']}/schedules/{made['schedules'][0]['id']}"
    assert api.send("DELETE", path).status_code == 204
    assert left() == set(runs.values()) - {runs["future"], runs["late"]}
    for method in ("DELETE", "PATCH"):
        answer = api.send(method, path, {})
        assert (answer.status_code, answer.json()) == (404, {"detail": "Schedule not found."})


def test_a_schedule_of_another_deployment_is_not_found(api: Api) -> None:
    mine, other = api.create(name="a"), api.create(name="b", schedules=[{"schedule": DAILY}])
    path = f"{mine['id']}/schedules/{other['schedules'][0]['id']}"
    assert api.send("DELETE", path).status_code == 404 and DeploymentSchedule.objects.count() == 1


# --- in the body of a deployment ------------------------------------------------------------------------------------


def test_a_create_drops_the_cap_and_replaces_and_makes_new_schedules(api: Api) -> None:
    item = {"schedule": DAILY, "slug": "a", "max_scheduled_runs": 5, "replaces": "gone"}
    made = api.create(schedules=[item])
    assert made["schedules"][0]["max_scheduled_runs"] is None
    again = api.create(200, flow_id=made["flow_id"], schedules=[item])
    assert [row["slug"] for row in again["schedules"]] == ["a"]


@pytest.mark.parametrize("slug", ["morning", None])
@pytest.mark.parametrize(("sent", "active"), [({}, False), ({"active": None}, False), ({"active": True}, True)])
def test_a_redeploy_wakes_a_paused_schedule_only_when_it_says_so(
    api: Api, slug: str | None, sent: dict[str, Any], active: bool
) -> None:  # C18
    item = {"schedule": DAILY, "slug": slug}
    made = api.create(schedules=[item])
    api.send("PATCH", f"{made['id']}/schedules/{made['schedules'][0]['id']}", {"active": False})
    again = api.create(200, flow_id=made["flow_id"], schedules=[item | sent])
    assert again["schedules"][0]["active"] is active
    api.send("PATCH", f"{made['id']}/schedules/{again['schedules'][0]['id']}", {"active": False})
    api.change(made["id"], schedules=[item | sent])
    assert api.read(made["id"])["schedules"][0]["active"] is active


def test_absent_schedules_stay_an_empty_list_clears_and_the_order_of_keys_means_nothing(api: Api) -> None:  # C19
    made = api.create(schedules=[{"schedule": {"cron": "0 9 * * *", "day_or": True}}])
    identity = DeploymentSchedule.objects.get().identity
    api.change(made["id"], description="x")
    assert len(api.read(made["id"])["schedules"]) == 1
    api.change(made["id"], schedules=[{"schedule": {"day_or": True, "cron": "0 9 * * *"}}])
    assert DeploymentSchedule.objects.get().identity == identity
    api.change(made["id"], schedules=[])
    assert api.read(made["id"])["schedules"] == []


def test_schedules_with_slugs_are_merged(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY, "slug": "a"}, {"schedule": HOURLY, "slug": "b"}])
    before = slugs(api, made)
    api.change(made["id"], schedules=[{"slug": "a", "schedule": {"cron": "0 10 * * *"}}, {"slug": "c", "schedule": DAILY}])
    after = slugs(api, made)
    assert set(after) == {"a", "b", "c"} and after["b"] == before["b"]
    assert after["a"]["id"] == before["a"]["id"] and after["a"]["schedule"] == PATCHED


def test_two_schedules_swap_their_slugs(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY, "slug": "a"}, {"schedule": HOURLY, "slug": "b"}])
    before = slugs(api, made)
    api.change(made["id"], schedules=[{"slug": "b", "replaces": "a"}, {"slug": "a", "replaces": "b"}])
    after = slugs(api, made)
    assert (after["a"]["id"], after["b"]["id"]) == (before["b"]["id"], before["a"]["id"])


def test_an_unclear_merge_is_refused_and_changes_nothing(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY, "slug": "a"}])
    before = api.read(made["id"])
    refused = api.change(made["id"], 422, description="x", schedules=[{"schedule": DAILY}])
    assert refused["detail"].startswith("Please provide a slug for each schedule")
    refused = api.change(made["id"], 422, description="x", schedules=[{"slug": "new"}])
    assert refused == {"detail": "Unable to create new deployment schedules without a schedule configuration."}
    assert api.read(made["id"]) == before

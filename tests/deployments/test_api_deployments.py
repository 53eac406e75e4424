"""`/deployments`: create, read, change, delete."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deployments import scheduling
from deployments.models import Deployment, DeploymentSchedule
from flowruns.models import FlowRun
from orchestrator.concurrency.models import ConcurrencyLimit
from tests import factories
from workqueues.models import WorkPool, WorkQueue

pytestmark = pytest.mark.django_db

DAILY = {"cron": "0 9 * * *"}
HOURLY = {"interval": 3600, "anchor_date": "2026-01-01T00:00:00Z"}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
KEYS = [
    "id",
    "created",
    "updated",
    "name",
    "version",
    "description",
    "path",
    "entrypoint",
    "flow_id",
    "paused",
    "schedules",
    "concurrency_limit",
    "global_concurrency_limit",
    "concurrency_options",
    "job_variables",
    "parameters",
    "tags",
    "labels",
    "work_queue_name",
    "work_queue_id",
    "work_pool_name",
    "last_polled",
    "status",
    "parameter_openapi_schema",
    "pull_steps",
    "storage_document_id",
    "infrastructure_document_id",
    "created_by",
    "updated_by",
    "enforce_parameter_schema",
]


class Api:
    """The deployments API as a client sees it."""

    def __init__(self) -> None:
        self.client = Client()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        url = f"/api/deployments/{path}"
        options: dict[str, Any] = {"headers": headers}
        if method == "GET":
            return self.client.get(url, **options)
        return self.client.generic(method, url, b"" if body is None else _json(body), content_type="application/json", **options)

    def create(self, status: int = 201, /, **body: Any) -> Any:
        body.setdefault("name", "nightly")
        if "flow_id" not in body:
            body["flow_id"] = str(factories.flow().pk)
        answer = self.send("POST", "", body)
        assert answer.status_code == status, answer.content
        return answer.json()

    def change(self, key: str, status: int = 204, /, **body: Any) -> Any:
        answer = self.send("PATCH", key, body)
        assert answer.status_code == status, answer.content
        return answer.json() if answer.content else None

    def read(self, key: str) -> Any:
        return self.send("GET", key).json()


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


@pytest.fixture
def api() -> Api:
    return Api()


def planned(deployment: Any, *, hours: float = 1, auto: bool = True, **columns: Any) -> FlowRun:
    row = Deployment.objects.get(pk=deployment["id"])
    at = timezone.now() + timedelta(hours=hours)
    return factories.flow_run(at=at, deployment=row, auto_scheduled=auto, **columns)


def left() -> set[Any]:
    return set(FlowRun.objects.values_list("pk", flat=True))


# --- create ---------------------------------------------------------------------------------------------------------


def test_a_new_deployment_has_every_key_of_the_wire_and_its_defaults(api: Api) -> None:
    flow = factories.flow(labels={"team": "data"})
    made = api.create(flow_id=str(flow.pk))
    assert list(made) == KEYS
    assert made["status"] == "NOT_READY" and made["paused"] is False and made["enforce_parameter_schema"] is True
    assert made["parameters"] == made["job_variables"] == made["parameter_openapi_schema"] == {}
    assert made["pull_steps"] == made["tags"] == made["schedules"] == []
    assert made["labels"] == {"team": "data", "prefect.flow.id": str(flow.pk)}
    assert made["global_concurrency_limit"] is made["concurrency_limit"] is made["created_by"] is None
    assert api.read(made["id"]) == made


def test_a_deployment_is_read_by_the_names_of_its_flow_and_itself(api: Api) -> None:
    flow = factories.flow("Größe 1 ")
    made = api.create(flow_id=str(flow.pk), name="täglich um 9", schedules=[{"schedule": DAILY}])
    assert api.send("GET", "name/Größe 1 /täglich um 9").json() == made
    for path in ("name/Größe 1 /other", "name/other/täglich um 9"):
        answer = api.send("GET", path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Deployment not found"})


def test_an_upsert_keeps_what_it_leaves_out_but_parameters_schedules_and_labels(api: Api) -> None:
    flow = str(factories.flow().pk)
    first = api.create(
        flow_id=flow,
        description="kept",
        tags=["kept"],
        parameters={"gone": 1},
        labels={"gone": True},
        schedules=[{"schedule": DAILY}],
    )
    second = api.create(200, flow_id=flow, version="2")
    assert second["id"] == first["id"] and second["created"] == first["created"]
    assert (second["description"], second["tags"], second["version"]) == ("kept", ["kept"], "2")
    assert (second["parameters"], second["schedules"], second["labels"]) == ({}, [], {"prefect.flow.id": flow})


def test_an_explicit_null_clears_what_may_be_null(api: Api) -> None:
    flow = str(factories.flow().pk)
    api.create(flow_id=flow, description="x", pull_steps=[{"a": {}}], parameter_openapi_schema={"type": "object"})
    made = api.create(200, flow_id=flow, description=None, pull_steps=None, parameter_openapi_schema=None)
    assert made["description"] is made["pull_steps"] is made["parameter_openapi_schema"] is None


@pytest.mark.parametrize("key", ["paused", "tags", "parameters", "schedules", "job_variables"])
def test_null_is_refused_where_there_must_be_a_value(api: Api, key: str) -> None:
    api.create(422, **{key: None})


@pytest.mark.parametrize(
    "key",
    ["id", "created", "updated", "created_by", "status", "last_polled", "owner", "is_superuser", "auto_scheduled"],
)
def test_what_the_server_owns_is_refused_in_a_body(api: Api, key: str) -> None:  # A17
    refused = api.create(422, **{key: None})
    assert refused["exception_detail"][0]["type"] == "extra_forbidden"
    made = api.create()
    assert api.change(made["id"], 422, **{key: None})["exception_detail"][0]["type"] == "extra_forbidden"


def test_keys_of_old_clients_are_dropped(api: Api) -> None:
    made = api.create(worker_pool_queue_id=None, worker_pool_name="x", worker_pool_queue_name="y", work_pool_queue_name="z")
    api.change(made["id"], worker_pool_name="x")


def test_version_info_is_taken_and_not_stored(api: Api) -> None:
    assert "version_info" not in api.create(version_info={"type": "git", "version": "abc", "branch": "main"})


@pytest.mark.parametrize("name", ["a/b", "50%", "<b>", "a&b"])
def test_forbidden_characters_in_a_name_are_refused(api: Api, name: str) -> None:
    assert api.create(422, name=name)["exception_detail"][0]["type"] == "string_pattern_mismatch"


def test_an_unknown_flow_is_an_integrity_conflict(api: Api) -> None:
    assert api.create(409, flow_id=str(uuid4()))["detail"].startswith("Data integrity conflict.")


def test_a_refusal_never_echoes_a_secret(api: Api) -> None:  # B20
    body = {"name": "a/b", "job_variables": {"env": {"X": "s3cret"}}, "parameters": {"password": "s3cret"}}
    answer = api.send("POST", "", body | {"api_key": "s3cret"})
    assert answer.status_code == 422 and b"s3cret" not in answer.content
    assert answer.json()["request_body"]["name"] == "a/b"


def test_parameters_must_fit_the_schema_only_where_enforcement_is_explicit(api: Api) -> None:
    bad = {"parameters": {"n": "one"}, "parameter_openapi_schema": NUMBER}
    api.create(**bad)
    refused = api.create(422, enforce_parameter_schema=True, **bad)["exception_detail"][0]
    assert refused["type"] == "value_error" and "Validation failed for field 'n'" in refused["msg"]
    api.create(name="empty", enforce_parameter_schema=True, parameter_openapi_schema=NUMBER)


@pytest.mark.parametrize("schema", [True, [], "string"])
def test_a_schema_that_is_no_object_is_refused(api: Api, schema: Any) -> None:  # E07
    api.create(422, parameter_openapi_schema=schema)


def test_an_invalid_schema_is_refused_where_it_is_enforced(api: Api) -> None:  # E07
    refused = api.create(422, enforce_parameter_schema=True, parameter_openapi_schema={"type": "strnig"})
    assert "The provided schema is not a valid json schema. Schema error:" in refused["exception_detail"][0]["msg"]


def test_parameters_beyond_the_cap_are_refused(api: Api) -> None:
    refused = api.create(422, parameters={"x": "a" * 524_288})
    assert "Flow run parameters must be less than 524,288 bytes when serialized" in refused["exception_detail"][0]["msg"]


@pytest.mark.parametrize("role", ["infrastructure", "storage"])
def test_an_unknown_block_is_a_conflict_that_says_which(api: Api, role: str) -> None:
    key = str(uuid4())
    refused = api.create(409, **{f"{role}_document_id": key})
    assert refused["detail"].startswith(f"Error creating deployment. Could not find {role} block with id: {key}.")


@pytest.mark.django_db(transaction=True)
def test_a_refused_create_leaves_nothing_not_even_its_queue(api: Api) -> None:
    pool = factories.work_pool()
    api.create(409, work_pool_name=pool.name, work_queue_name="new", storage_document_id=str(uuid4()))
    assert not Deployment.objects.exists() and not WorkQueue.objects.filter(name="new").exists()


@pytest.mark.django_db(transaction=True)
def test_a_failure_in_the_middle_of_an_upsert_leaves_everything_as_it_was(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = str(factories.flow().pk)
    made = api.create(flow_id=flow, schedules=[{"schedule": DAILY}], concurrency_limit=2)
    run = planned(made)
    before = api.read(made["id"])

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(scheduling, "purge", fail)
    api.client.raise_request_exception = False
    answer = api.send("POST", "", {"name": "nightly", "flow_id": flow, "version": "2", "concurrency_limit": None})
    assert answer.status_code == 500
    assert api.read(made["id"]) == before and left() == {run.pk}


# --- pool and queue -------------------------------------------------------------------------------------------------


def test_a_pool_alone_means_its_default_queue(api: Api) -> None:
    pool = factories.work_pool()
    made = api.create(work_pool_name=pool.name)
    assert (made["work_pool_name"], made["work_queue_name"]) == (pool.name, "default")
    assert made["work_queue_id"] == str(pool.default_queue_id)


def test_an_unknown_queue_of_a_pool_is_made(api: Api) -> None:  # E16
    pool = factories.work_pool()
    made = api.create(work_pool_name=pool.name, work_queue_name="new")
    assert made["work_queue_id"] == str(WorkQueue.objects.get(work_pool=pool, name="new").pk)


def test_a_queue_without_a_pool_lives_in_the_agent_pool(api: Api) -> None:  # E16
    made = api.create(work_queue_name="legacy")
    assert (made["work_pool_name"], made["work_queue_name"]) == ("default-agent-pool", "legacy")


@pytest.mark.parametrize("variables", [{}, {"image": "x"}])
def test_an_unknown_pool_is_not_found(api: Api, variables: Any) -> None:  # E16
    refused = api.create(404, work_pool_name="nowhere", job_variables=variables)
    assert refused == {"detail": 'Work pool "nowhere" not found.'}
    made = api.create()
    assert api.change(made["id"], 404, work_pool_name="nowhere") == {"detail": 'Work pool "nowhere" not found.'}


def typed_pool() -> WorkPool:
    variables = {"type": "object", "properties": {"image": {"type": "string"}}, "required": ["image"]}
    return factories.work_pool(base_job_template={"job_configuration": {"image": "{{ image }}"}, "variables": variables})


def test_job_variables_must_fit_the_pool_but_nothing_is_required_yet(api: Api) -> None:
    pool = typed_pool()
    refused = api.create(422, work_pool_name=pool.name, job_variables={"image": 1})
    assert refused["detail"].startswith("Error creating deployment: Validation failed for field 'image'.")
    made = api.create(work_pool_name=pool.name, job_variables={"other": 1})
    changed = api.change(made["id"], 409, work_pool_name=pool.name, job_variables={"image": 5})
    assert changed["detail"].startswith('Error creating deployment: <ValidationError: "5 is not ')
    api.change(made["id"], job_variables={"image": 5})


def test_a_null_pool_unbinds_the_queue_and_keeps_its_stored_name(api: Api) -> None:
    pool = factories.work_pool()
    made = api.create(work_pool_name=pool.name, work_queue_name="q")
    api.change(made["id"], work_pool_name=None)
    after = api.read(made["id"])
    assert (after["work_queue_id"], after["work_pool_name"], after["work_queue_name"]) == (None, None, "q")


def test_the_queue_shows_its_name_as_it_is_now(api: Api) -> None:
    pool = factories.work_pool()
    made = api.create(work_pool_name=pool.name, work_queue_name="q")
    WorkQueue.objects.filter(pk=made["work_queue_id"]).update(name="renamed")
    assert api.read(made["id"])["work_queue_name"] == "renamed"


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_concurrency_limit_is_made_changed_and_deleted_with_the_deployment(api: Api) -> None:
    made = api.create(concurrency_limit=2, concurrency_options={"collision_strategy": "CANCEL_NEW", "more": 1})
    limit = made["global_concurrency_limit"]
    assert (limit["name"], limit["limit"], limit["active_slots"]) == (f"deployment:{made['id']}", 2, 0)
    assert made["concurrency_options"] == {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": None}
    api.change(made["id"], concurrency_limit=5)
    assert api.read(made["id"])["global_concurrency_limit"] | {"updated": 0} == limit | {"limit": 5, "updated": 0}
    api.change(made["id"], description="x")
    assert ConcurrencyLimit.objects.get().limit == 5
    api.change(made["id"], concurrency_limit=None)
    assert api.read(made["id"])["global_concurrency_limit"] is None and not ConcurrencyLimit.objects.exists()


def test_a_global_limit_is_bound_and_unbound_without_being_deleted(api: Api) -> None:
    shared = ConcurrencyLimit.objects.create(name="shared", limit=3)
    made = api.create(global_concurrency_limit_id=str(shared.pk))
    assert made["global_concurrency_limit"]["name"] == "shared"
    api.change(made["id"], global_concurrency_limit_id=None)
    assert api.read(made["id"])["global_concurrency_limit"] is None
    assert ConcurrencyLimit.objects.filter(pk=shared.pk).exists()


def test_two_limits_and_an_unknown_limit_are_refused(api: Api) -> None:
    refused = api.create(422, concurrency_limit=1, global_concurrency_limit_id=str(uuid4()))
    assert "cannot have both a concurrency limit and a global" in refused["exception_detail"][0]["msg"]
    assert api.create(404, global_concurrency_limit_id=str(uuid4())) == {"detail": "Concurrency limit not found"}
    made = api.create()
    assert api.change(made["id"], 404, global_concurrency_limit_id=str(uuid4()))["detail"] == "Concurrency limit not found"


# --- change ---------------------------------------------------------------------------------------------------------


def test_a_change_writes_only_what_it_names(api: Api) -> None:
    made = api.create(description="old", tags=["a"], version="1")
    api.change(made["id"], description="new", version=None)
    after = api.read(made["id"])
    assert after["updated"] > made["updated"]
    assert after | {"updated": 0} == made | {"updated": 0, "description": "new", "version": None}


def test_an_empty_change_changes_nothing(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY}])
    run = planned(made)
    api.change(made["id"])
    assert api.read(made["id"]) == made and left() == {run.pk}


@pytest.mark.parametrize("body", [{"name": "x"}, {"labels": {}}, {"flow_id": str(uuid4())}, {"paused": None}])
def test_what_cannot_be_changed_is_refused(api: Api, body: Any) -> None:
    api.change(api.create()["id"], 422, **body)


def test_null_parameters_are_an_integrity_conflict(api: Api) -> None:
    made = api.create()
    assert api.change(made["id"], 409, parameters=None)["detail"].startswith("Data integrity conflict.")


def test_null_job_variables_are_ignored_and_an_empty_object_clears(api: Api) -> None:
    made = api.create(job_variables={"a": 1})
    api.change(made["id"], job_variables=None)
    assert api.read(made["id"])["job_variables"] == {"a": 1}
    api.change(made["id"], job_variables={})
    assert api.read(made["id"])["job_variables"] == {}


def test_every_change_checks_the_stored_parameters_where_enforced(api: Api) -> None:
    made = api.create(parameters={"n": "one"}, parameter_openapi_schema=NUMBER)
    refused = api.change(made["id"], 409, description="x")
    assert refused["detail"].startswith("Error updating deployment: Validation failed for field 'n'.")
    api.change(made["id"], description="x", enforce_parameter_schema=False)
    api.change(made["id"], enforce_parameter_schema=True, parameters={"n": 1})


def test_enforcement_needs_a_schema(api: Api) -> None:  # E09
    made = api.create(parameter_openapi_schema=None)
    text = (
        "Error updating deployment: Cannot update parameters because parameter schema enforcement is enabled and the "
        "deployment does not have a valid parameter schema."
    )
    assert api.change(made["id"], 409, description="x") == {"detail": text}
    answer = api.send("POST", f"{made['id']}/create_flow_run", {})
    assert (answer.status_code, answer.json()) == (409, {"detail": text})


def test_parameters_are_stored_with_their_placeholders_filled(api: Api) -> None:
    made = api.create()
    api.change(made["id"], parameters={"a": {"__prefect_kind": "json", "value": "[1, 2]"}})
    assert api.read(made["id"])["parameters"] == {"a": [1, 2]}
    missing = {"a": {"__prefect_kind": "workspace_variable", "variable_name": "gone"}}
    refused = api.change(made["id"], 400, parameters=missing)
    assert refused["detail"] == "Error hydrating deployment parameters: Variable 'gone' not found in workspace."


# --- runs that were planned -----------------------------------------------------------------------------------------


def five_runs(made: Any) -> dict[str, Any]:
    return {
        "future": planned(made).pk,
        "late": planned(made, hours=-1, state_name="Late").pk,
        "manual": planned(made, auto=False).pk,
        "begun": planned(made, run_count=1).pk,
        "slot": planned(made, state_name="AwaitingConcurrencySlot").pk,
    }


def test_a_redeploy_and_a_change_delete_the_future_planned_runs_only(api: Api) -> None:
    flow = str(factories.flow().pk)
    made = api.create(flow_id=flow)
    runs = five_runs(made)
    api.create(200, flow_id=flow)
    assert left() == set(runs.values()) - {runs["future"]}
    again = planned(made).pk
    api.change(made["id"], description="x")
    assert again not in left()


def test_a_pause_deletes_late_planned_runs_too_and_a_resume_lifts_it(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY}])
    runs = five_runs(made)
    answer = api.send("POST", f"{made['id']}/pause_deployment")
    assert (answer.status_code, answer.json()) == (200, None)
    assert left() == set(runs.values()) - {runs["future"], runs["late"]}
    paused = api.read(made["id"])
    assert paused["paused"] is True and paused["updated"] > made["updated"]
    api.send("POST", f"{made['id']}/resume_deployment")
    assert api.read(made["id"])["paused"] is False


def test_every_change_of_plans_raises_the_revision_that_schedulers_compare(api: Api) -> None:
    flow = str(factories.flow().pk)
    made = api.create(flow_id=flow, schedules=[{"schedule": DAILY}])
    schedule = made["schedules"][0]["id"]

    def revision() -> int:
        return Deployment.objects.get(pk=made["id"]).schedule_revision

    seen = [revision()]
    for act in (
        lambda: api.send("PATCH", f"{made['id']}/schedules/{schedule}", {"active": False}),
        lambda: api.change(made["id"], description="x"),
        lambda: api.send("POST", f"{made['id']}/pause_deployment"),
        lambda: api.send("POST", f"{made['id']}/resume_deployment"),
        lambda: api.send("DELETE", f"{made['id']}/schedules/{schedule}"),
        lambda: api.create(200, flow_id=flow),
    ):
        act()
        seen.append(revision())
    assert seen == sorted(set(seen))


def test_a_deletion_takes_unbegun_runs_schedules_and_the_limit_and_leaves_the_rest(api: Api) -> None:
    made = api.create(schedules=[{"schedule": DAILY}], concurrency_limit=1)
    runs = five_runs(made)
    assert api.send("DELETE", made["id"]).status_code == 204
    assert left() == {runs["begun"], runs["slot"]}
    assert not DeploymentSchedule.objects.exists() and not ConcurrencyLimit.objects.exists()
    assert str(FlowRun.objects.get(pk=runs["begun"]).deployment_id) == made["id"]
    answer = api.send("DELETE", made["id"])
    assert (answer.status_code, answer.json()) == (404, {"detail": "Deployment not found"})


def test_a_deleted_shared_limit_unbinds_the_others(api: Api) -> None:
    shared = ConcurrencyLimit.objects.create(name="shared", limit=3)
    first = api.create(name="a", global_concurrency_limit_id=str(shared.pk))
    second = api.create(name="b", global_concurrency_limit_id=str(shared.pk))
    api.send("DELETE", first["id"])
    assert api.read(second["id"])["global_concurrency_limit"] is None


def test_a_bulk_deletion_deletes_what_the_filter_keeps_up_to_its_limit(api: Api) -> None:
    made = [api.create(name=name)["id"] for name in ("a", "b", "c")]
    first = api.send("POST", "bulk_delete", {"deployments": {"name": {"any_": ["b", "c"]}}, "limit": 1})
    assert first.json() == {"deleted": [made[1]]}
    assert api.send("POST", "bulk_delete", {}).json() == {"deleted": [made[0], made[2]]}
    for limit in (0, 51, -1):
        assert api.send("POST", "bulk_delete", {"limit": limit}).status_code == 422


UNKNOWN = "3f9d3a70-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "", "Deployment not found"),
        ("DELETE", "", "Deployment not found"),
        ("PATCH", "", "Deployment not found."),
        ("POST", "/pause_deployment", "Deployment not found"),
        ("POST", "/resume_deployment", "Deployment not found"),
        ("POST", "/create_flow_run", "Deployment not found"),
        ("GET", "/work_queue_check", "Deployment not found"),
        ("GET", "/schedules", "Deployment not found."),
        ("DELETE", f"/schedules/{UNKNOWN}", "Deployment not found."),
        ("PATCH", f"/schedules/{UNKNOWN}", "Deployment not found."),
    ],
)
def test_an_unknown_deployment_is_not_found_everywhere(api: Api, method: str, path: str, detail: str) -> None:
    answer = api.send(method, UNKNOWN + path, {})
    assert (answer.status_code, answer.json()) == (404, {"detail": detail})


def test_an_id_that_is_none_is_no_route(api: Api) -> None:
    answer = api.send("GET", "not-an-id")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


# --- lists ----------------------------------------------------------------------------------------------------------


def test_lists_are_filtered_sorted_counted_and_paged(api: Api) -> None:
    pool = factories.work_pool()
    flow = factories.flow("etl")
    for name, body in {"b": {"tags": ["x"]}, "a": {"work_pool_name": pool.name}, "c": {"paused": True}}.items():
        api.create(name=name, flow_id=str(flow.pk), **body)

    def names(**body: Any) -> list[str]:
        return [row["name"] for row in api.send("POST", "filter", body).json()]

    assert names() == ["a", "b", "c"]
    assert names(sort="NAME_DESC", limit=2) == ["c", "b"]
    assert names(deployments={"tags": {"all_": ["x"]}}) == ["b"]
    assert names(work_pools={"name": {"any_": [pool.name]}}) == ["a"]
    assert names(flows={"name": {"any_": ["etl"]}}, deployments={"paused": {"eq_": True}}) == ["c"]
    assert names(flow_runs={}) == [] and names(limit=0) == []
    assert api.send("POST", "count").json() == 3
    page = api.send("POST", "paginate", {"limit": 2, "page": 2}).json()
    assert [row["name"] for row in page.pop("results")] == ["c"]
    assert page == {"count": 3, "limit": 2, "pages": 2, "page": 2}
    assert api.send("POST", "filter", {"limit": 201}).json() == {"detail": "Invalid limit: must be less than or equal to 200."}
    assert api.send("POST", "filter", {"sort": "name; DROP"}).status_code == 422
    assert api.send("POST", "filter", {"deployments": {"is_schedule_active": {}}}).status_code == 422


def queries(act: Any) -> int:
    with CaptureQueriesContext(connection) as captured:
        act()
    return len([query for query in captured if "SAVEPOINT" not in query["sql"]])


def test_a_page_costs_the_same_for_one_deployment_and_for_fifty(api: Api) -> None:
    pool = factories.work_pool()
    for position in range(50):
        row = factories.deployment(f"d{position:02}", work_queue=pool.default_queue)
        for slug in "ab":
            DeploymentSchedule.objects.create(deployment=row, schedule=DAILY, slug=slug, identity=uuid4())

    def page(limit: int) -> int:
        return queries(lambda: api.send("POST", "filter", {"limit": limit}))

    assert page(1) == page(50) == 2
    rows = api.send("POST", "filter", {"limit": 50}).json()
    assert [[item["slug"] for item in row["schedules"]] for row in rows] == [["b", "a"]] * 50


def test_one_deployment_costs_two_queries_by_id_and_by_name(api: Api) -> None:
    row = factories.deployment()
    assert queries(lambda: api.send("GET", str(row.pk))) == 2
    assert queries(lambda: api.send("GET", f"name/{row.flow.name}/{row.name}")) == 2


def test_an_automation_is_named_as_maker_and_changer(api: Api) -> None:
    key = str(uuid4())
    headers = {"prefect-automation-id": key, "prefect-automation-name": "bmlnaHRseQ=="}
    body = {"name": "n", "flow_id": str(factories.flow().pk)}
    made = api.send("POST", "", body, **headers).json()
    assert made["created_by"] == {"id": key, "type": "AUTOMATION", "display_value": "nightly"}
    assert made["updated_by"] == {"id": key, "type": "AUTOMATION", "display_value": "bmlnaHRseQ=="}
    run = api.send("POST", f"{made['id']}/create_flow_run", {}, **headers).json()
    assert run["created_by"] == made["created_by"]


def test_the_legacy_filter_of_a_queue_decides_the_queue_check(api: Api) -> None:
    pool = factories.work_pool()
    made = api.create(tags=["x", "y"])
    factories.work_queue(pool, "fits", filter={"tags": ["x"], "deployment_ids": [made["id"]]})
    factories.work_queue(pool, "tags", filter={"tags": ["z"]})
    factories.work_queue(pool, "ids", filter={"tags": [], "deployment_ids": [str(uuid4())]})
    answer = api.send("GET", f"{made['id']}/work_queue_check")
    assert [row["name"] for row in answer.json()] == ["default", "fits"]

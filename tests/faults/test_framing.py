"""Request bodies that are not what they should be: a clear 4xx, never a 500, and nothing written."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from flowruns.models import Flow, FlowRun
from tests.factories import deployment, flow, flow_run, work_pool

pytestmark = pytest.mark.django_db

SOME_ID = "3f9d3a70-0000-4000-8000-000000000000"
HOSTILE = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"5",
    "a text": b'"x"',
    "not JSON": b"{",
    "not UTF-8": b'{"name":"\xff"}',
    "NaN": b'{"name":NaN}',
    "infinity": b'{"limit":Infinity}',
    "NUL": b'{"name":"a\\u0000b"}',
    "a lone surrogate": b'{"name":"\\ud800"}',
    "100,000 levels": b"[" * 100_000,
    "300 levels": b'{"parameters":' * 300 + b"1" + b"}" * 300,
    "5,000 digits": b'{"limit":' + b"9" * 5_000 + b"}",
    "unknown keys": b'{"__class__":"x","id":"y","created":1,"updated":2,"owner":3,"is_superuser":true}',
    "wrong types": b'{"name":{"a":[]},"limit":"many","offset":{},"sort":7,"tags":5,"parameters":[],"state":"x","schedules":{}}',
    "huge numbers": b'{"limit":1e308,"offset":9223372036854775807,"page":99999999999999999999,"priority":1e30}',
}


def routes(resolver: URLResolver | None = None, prefix: str = "/") -> list[str]:
    """Every address of the API, its variables filled with what names nothing."""
    found: list[str] = []
    for item in (resolver or get_resolver()).url_patterns:
        path = prefix + str(item.pattern)
        if isinstance(item, URLResolver):
            found += routes(item, path)
        elif isinstance(item, URLPattern):
            found.append(path)
    return found


def filled(path: str) -> str:
    parts = path.split("<")
    return parts[0] + "".join(
        (SOME_ID if part.split(">")[0].startswith(("id:", "uuid:")) else "none") + part.split(">", 1)[1] for part in parts[1:]
    )


API = sorted({filled(path) for path in routes() if path.startswith("/api/") and "openapi" not in path})


def test_the_table_of_routes_is_not_empty() -> None:
    assert len(API) > 80
    assert f"/api/deployments/{SOME_ID}" in API


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_route_fails_or_hangs_on_a_hostile_body(client: Client, kind: str) -> None:
    """B03 to B13, A17: over every route and every method."""
    before = Flow.objects.count(), FlowRun.objects.count()
    client.raise_request_exception = False
    for path in API:
        for method in ("POST", "PATCH", "PUT", "DELETE", "GET"):
            began = time.process_time()
            response = client.generic(method, path, HOSTILE[kind], content_type="application/json")
            assert response.status_code < 500, (method, path, response.content)
            assert time.process_time() - began < 2, (method, path)
            if response.status_code >= 400:
                answer = response.json()
                assert {"detail", "exception_message"} & answer.keys(), (method, path, answer)
    assert (Flow.objects.count(), FlowRun.objects.count()) == before


def post(client: Client, path: str, body: bytes | Any, **headers: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.generic("POST", f"/api{path}", raw, **{"content_type": "application/json", **headers})


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_in_json_is_refused(client: Client, literal: str) -> None:
    """B04."""
    owner = flow()
    response = post(client, "/flow_runs/", f'{{"flow_id":"{owner.pk}","parameters":{{"x":{literal}}}}}'.encode())
    assert response.status_code == 422
    assert not FlowRun.objects.exists()


def test_a_large_integer_comes_back_as_it_was_sent(client: Client) -> None:
    """B05."""
    owner = flow()
    response = post(client, "/flow_runs/", f'{{"flow_id":"{owner.pk}","parameters":{{"x":{2**70}}}}}'.encode())
    assert response.status_code == 201
    assert f'"x":{2**70}'.encode() in client.get(f"/api/flow_runs/{response.json()['id']}").content.replace(b": ", b":")


def test_what_nests_300_levels_deep_can_be_read_again_or_was_refused(client: Client) -> None:
    """B03."""
    owner = flow()
    nested: Any = 1
    for _ in range(300):
        nested = {"n": nested}
    response = post(client, "/flow_runs/", {"flow_id": str(owner.pk), "parameters": nested})
    if response.status_code == 201:
        assert client.get(f"/api/flow_runs/{response.json()['id']}").json()["parameters"] == nested
        assert post(client, "/flow_runs/filter", {}).status_code == 200
    else:
        assert response.status_code in {400, 422}


def test_of_two_equal_keys_the_last_wins_on_both_parsers(client: Client) -> None:
    """B09."""
    assert post(client, "/flows/", b'{"name":"a","name":"b"}').json()["name"] == "b"
    assert post(client, "/flows/", f'{{"name":"a","name":"c","labels":{{"n":{10**25}}}}}'.encode()).json().get("name", "c") == "c"


@pytest.mark.parametrize("kind", ["", "text/json", "application/json; charset=latin-1", "text/plain"])
def test_a_body_is_json_whatever_it_is_called(client: Client, kind: str) -> None:
    """B11."""
    flow("here")
    response = post(client, "/flows/filter", {"flows": {"name": {"any_": ["here"]}}}, content_type=kind)
    assert [row["name"] for row in response.json()] == ["here"]


def test_an_empty_body_of_a_filter_is_no_filter(client: Client) -> None:
    """B11."""
    flow("here")
    assert [row["name"] for row in post(client, "/flows/filter", b"").json()] == ["here"]


@pytest.mark.parametrize(
    ("value", "status"), [("5", 200), (5.0, 200), (1.5, 422), ("x", 422), (True, 422), (None, 200), ([], 422), (-1, 422)]
)
def test_a_limit_is_read_as_pydantic_reads_an_integer(client: Client, value: Any, status: int) -> None:
    """B13."""
    # A boolean counts as a number for pydantic's lax mode.
    expected = 200 if value is True else status
    assert post(client, "/flows/filter", {"limit": value}).status_code == expected


@pytest.mark.parametrize(("value", "status"), [("true", 201), ("yes", 201), (1, 201), ("maybe", 422), (2, 422)])
def test_a_flag_is_read_as_pydantic_reads_a_boolean(client: Client, value: Any, status: int) -> None:
    """B13."""
    body = {"name": "d", "flow_id": str(flow().pk), "paused": value}
    response = post(client, "/deployments/", body)
    assert response.status_code == status
    if status == 201:
        assert response.json()["paused"] is True


@pytest.mark.parametrize(
    ("version", "status"),
    [(None, 200), ("0.8.4", 200), ("99.0.0", 200), ("0.1.0", 400), ("x", 400), ("1.2", 400), ("1" * 5000, 400)],
)
def test_an_api_version_is_old_well_formed_or_absent(client: Client, version: str | None, status: int) -> None:
    """B15."""
    headers = {} if version is None else {"HTTP_X_PREFECT_API_VERSION": version}
    assert post(client, "/flows/filter", {}, **headers).status_code == status


def test_an_id_may_be_written_in_any_form_of_a_uuid(client: Client) -> None:
    """B17."""
    key = flow_run().pk
    for text in (str(key), str(key).upper(), key.hex):
        assert client.get(f"/api/flow_runs/{text}").status_code == 200, text
    for text in ("none", str(key)[:-1], f"{key}0", "null", "%00"):
        assert client.get(f"/api/flow_runs/{text}").status_code in {404, 422}, text


@pytest.mark.parametrize("name", ["a/b", "a%b", "a&b", "a>b", "a<b"])
def test_names_that_no_address_can_hold_are_refused(client: Client, name: str) -> None:
    """B18."""
    body = {"name": name, "flow_id": str(flow().pk)}
    assert post(client, "/deployments/", body).status_code == 422


@pytest.mark.parametrize("name", ["..", "a b", " edge ", "é", "е", "日本", "a\u202eb", "x" * 1_000, "a?b#c", "a;b", "a+b"])
def test_every_allowed_name_leads_to_its_deployment(client: Client, name: str) -> None:
    """B18."""
    from urllib.parse import quote

    owner = flow()
    made = post(client, "/deployments/", {"name": name, "flow_id": str(owner.pk)})
    if made.status_code == 422:
        return
    assert made.status_code == 201
    found = client.get(f"/api/deployments/name/{quote(owner.name, safe='')}/{quote(name, safe='')}")
    assert (found.status_code, found.json()["id"]) == (200, made.json()["id"])


@pytest.mark.parametrize("key", ["password", "token", "api_key", "secret", "job_variables", "client_secret"])
def test_a_refusal_does_not_show_secrets(client: Client, key: str) -> None:
    """B20."""
    response = post(client, "/deployments/", {"name": 5, key: "hunter2", "job_variables": {"env": {"A": "hunter2"}}})
    assert response.status_code == 422
    assert b"hunter2" not in response.content


@pytest.mark.parametrize(
    "key", ["id", "created", "updated", "created_by", "status", "last_polled", "owner", "is_superuser", "auto_scheduled"]
)
def test_what_the_server_owns_cannot_be_set(client: Client, key: str) -> None:
    """A17."""
    row = deployment()
    value = SOME_ID if key == "id" else "x"
    response = client.patch(f"/api/deployments/{row.pk}", json.dumps({key: value}), content_type="application/json")
    assert response.status_code == 422
    made = post(client, "/deployments/", {"name": "n", "flow_id": str(row.flow_id), key: value})
    if made.status_code in {200, 201}:
        assert made.json().get(key) != value
    assert not type(row).objects.filter(pk=UUID(SOME_ID)).exists()


@pytest.mark.parametrize("text", ["'; DROP TABLE flowruns_flow; --", '"', "\\", "%s", "{}", "$1", "{{ 7*7 }}", "a' OR '1'='1"])
def test_text_is_never_sql(client: Client, text: str) -> None:
    """G05."""
    made = post(client, "/flows/", {"name": text.replace("%", "").replace("/", "") or "x", "tags": [text]})
    assert made.status_code in {200, 201, 422}
    for filters in ({"name": {"any_": [text]}}, {"name": {"like_": text}}, {"tags": {"all_": [text]}}):
        assert post(client, "/flows/filter", {"flows": filters}).status_code in {200, 422}
    assert post(client, "/flows/filter", {"sort": text}).status_code == 422
    assert client.get(f"/api/flows/name/{text.replace('/', '')}").status_code in {200, 404, 422}
    work_pool("still-here")
    assert Flow.objects.count() <= 1

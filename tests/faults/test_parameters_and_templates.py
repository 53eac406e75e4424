"""Parameters, schemas and templates that mean harm."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from flowruns.models import FlowRun
from tests.factories import deployment, work_pool

pytestmark = pytest.mark.django_db


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(f"/api{path}", json.dumps(body), content_type="application/json")


def run(client: Client, schema: Any, parameters: Any, **body: Any) -> Any:
    owner = deployment(parameter_openapi_schema=schema, enforce_parameter_schema=True)
    return post(client, f"/deployments/{owner.pk}/create_flow_run", {"parameters": parameters, **body})


@pytest.mark.parametrize(
    "reference", ["http://169.254.169.254/latest", "file:///etc/passwd", "https://example.com/s.json", "#/nowhere"]
)
def test_a_reference_is_never_fetched(client: Client, reference: str) -> None:
    """E01."""
    began = time.monotonic()
    response = run(client, {"type": "object", "properties": {"x": {"$ref": reference}}}, {"x": 1})
    assert response.status_code in {409, 422}
    assert b"root:" not in response.content
    assert time.monotonic() - began < 2
    assert not FlowRun.objects.exists()


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(?<=a+)b", "(", "[", "a" * 5_000, "(?P<x>a)(?P=x)", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_a_pattern_costs_no_more_than_a_moment(client: Client, pattern: str) -> None:
    """E04."""
    began = time.process_time()
    response = run(client, {"properties": {"x": {"type": "string", "pattern": pattern}}}, {"x": "a" * 40 + "!"})
    assert response.status_code < 500
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "schema", [True, [], "x", {"type": "strnig"}, {"properties": 5}, {"required": "x"}, {"type": ["object", 7]}]
)
def test_a_schema_that_is_none_is_said_so(client: Client, schema: Any) -> None:
    """E07."""
    response = run(client, schema, {"x": 1})
    assert response.status_code in {409, 422}
    assert response.json()["detail"]


def test_enforcement_without_a_schema_is_a_conflict(client: Client) -> None:
    """E09."""
    response = run(client, None, {"x": 1})
    assert response.status_code == 409
    assert "does not have a valid parameter schema" in response.json()["detail"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''|attr('__class__') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ range(10**9)|list }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{% include '/etc/passwd' %}",
        "{{",
    ],
)
def test_a_template_cannot_leave_its_sandbox(client: Client, template: str) -> None:
    """E12, A15."""
    owner = deployment()
    for value in (
        {"__prefect_kind": "jinja", "template": template},
        {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": template}},
    ):
        began = time.process_time()
        response = post(client, f"/deployments/{owner.pk}/create_flow_run", {"parameters": {"x": value}})
        assert time.process_time() - began < 2
        assert response.status_code < 500
        if response.status_code == 201:
            shown = json.dumps(response.json()["parameters"])
            assert not any(leak in shown for leak in ("<class", "uid=", "globals", "root:", "module")), shown


def test_pools_and_queues_are_found_made_or_missing(client: Client) -> None:
    """E16."""
    owner = deployment()
    body = {"name": "d", "flow_id": str(owner.flow_id)}
    missing = post(client, "/deployments/", body | {"work_pool_name": "none"})
    assert (missing.status_code, missing.json()) == (404, {"detail": 'Work pool "none" not found.'})
    pool = work_pool()
    made = post(client, "/deployments/", body | {"work_pool_name": pool.name, "work_queue_name": "new"})
    assert (made.json()["work_pool_name"], made.json()["work_queue_name"]) == (pool.name, "new")
    alone = post(client, "/deployments/", {**body, "name": "e", "work_queue_name": "lonely"})
    assert alone.json()["work_queue_name"] == "lonely"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "a\u202egnp.exe", '"><img src=x onerror=alert(1)>']
)
def test_the_admin_shows_text_and_never_runs_it(client: Client, text: str) -> None:
    """E17."""
    name = text.replace("/", "").replace("<", "(").replace(">", ")")
    row = deployment(name=name, description=text, tags=[text], parameters={"x": text})
    client.force_login(User.objects.create_superuser("root"))
    for path in ("/admin/deployments/deployment/", f"/admin/deployments/deployment/{row.pk}/change/"):
        page = client.get(path)
        assert page.status_code == 200
        shown = page.content.decode()
        assert "<script>alert(1)" not in shown
        assert "<img src=x" not in shown
        assert 'href="javascript:alert' not in shown


def test_pull_steps_are_data(client: Client) -> None:
    """E20."""
    steps = [
        {"prefect.deployments.steps.git_clone": {"repository": "--upload-pack=touch /tmp/x", "branch": "-c core.sshCommand=id"}}
    ]
    owner = deployment()
    made = post(client, "/deployments/", {"name": "d", "flow_id": str(owner.flow_id), "pull_steps": steps})
    assert client.get(f"/api/deployments/{made.json()['id']}").json()["pull_steps"] == steps

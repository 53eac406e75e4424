"""The gate of /api when credentials are asked for."""

from __future__ import annotations

import base64
import json
import logging
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from flowruns.models import Flow
from tests.factories import deployment, flow
from tests.faults.test_framing import API

pytestmark = pytest.mark.django_db

SECRET = "admin:pass:word"
GOOD = "Basic " + base64.b64encode(SECRET.encode()).decode()


@pytest.fixture
def guarded(settings: Any) -> None:
    settings.API_AUTH_STRING = SECRET


@pytest.mark.usefixtures("guarded")
def test_without_credentials_every_route_but_two_is_shut(client: Client) -> None:
    """A01."""
    for path in API:
        for method in ("GET", "POST", "PATCH", "PUT", "DELETE", "HEAD"):
            response = client.generic(method, path, b'{"name":"x"}', content_type="application/json")
            if (method, path) in {("GET", "/api/health"), ("GET", "/api/ready")}:
                assert response.status_code == 200
            else:
                assert response.status_code == 401, (method, path)
                assert method == "HEAD" or response.json() == {"exception_message": "Unauthorized"}
    assert not Flow.objects.exists()


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/health/"),
        ("GET", "//api/health"),
        ("GET", "/api/health/../deployments"),
        ("GET", "/api/health;x=1"),
        ("HEAD", "/api/health"),
        ("POST", "/api/health"),
        ("GET", "/api/variables/name/system-health"),
        ("GET", "/api/variables/name/x-ready"),
        ("GET", "/api/flows/name/health"),
    ],
)
def test_only_the_exact_address_is_open(client: Client, method: str, path: str) -> None:
    """A02, A03."""
    answer = client.generic(method, path)
    # What is outside of /api may be a page of the web UI, which holds no data.
    assert answer.status_code in {401, 404, 405} or answer["Content-Type"] == "text/html"


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    "header", ["HTTP_X_ORIGINAL_URL", "HTTP_X_REWRITE_URL", "HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_USER"]
)
def test_a_header_does_not_open_the_gate(client: Client, header: str) -> None:
    """A04, A05."""
    assert client.post("/api/flows/filter", "{}", content_type="application/json", **{header: "/api/health"}).status_code == 401


def test_a_host_that_is_not_ours_is_refused(client: Client, settings: Any) -> None:
    """A04."""
    settings.ALLOWED_HOSTS = ["orchestrator.example"]
    assert client.get("/api/health", HTTP_HOST="evil.example").status_code == 400
    assert client.get("/api/health", HTTP_HOST="orchestrator.example").status_code == 200
    assert client.get("/api/health", HTTP_HOST="a b\x7f").status_code == 400


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("value", [GOOD, GOOD.replace("Basic", "basic"), GOOD.replace(" ", "   ")])
def test_the_right_credentials_open_it(client: Client, value: str) -> None:
    """A06."""
    assert client.post("/api/flows/filter", "{}", content_type="application/json", HTTP_AUTHORIZATION=value).status_code == 200


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    "value",
    [
        "Basic",
        "Basic ",
        "Basic ???",
        "Basic bm9jb2xvbg==",
        "Basic " + "A" * 1_000_000,
        "Basic \xff\xfe",
        f"{GOOD}, {GOOD}",
        f"Bearer {SECRET}",
    ],
    ids=["no value", "empty", "no base64", "no colon", "1 MB", "not ASCII", "twice", "another scheme"],
)
def test_malformed_credentials_are_refused_at_once_and_quietly(
    client: Client, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A06."""
    client.get("/api/health")  # what is loaded by the first request is not what is measured
    began = time.process_time()
    with caplog.at_level(logging.INFO):
        response = client.post("/api/flows/filter", "{}", content_type="application/json", HTTP_AUTHORIZATION=value)
    assert response.status_code == 401
    assert time.process_time() - began < 0.05
    assert not [record for record in caplog.records if record.levelno > logging.INFO and record.name != "django.request"]


def test_an_actor_is_not_whom_a_header_names(client: Client) -> None:
    """A18."""
    owner = flow()
    response = client.post(
        "/api/deployments/",
        json.dumps({"name": "d", "flow_id": str(owner.pk)}),
        content_type="application/json",
        HTTP_X_PREFECT_ACTOR="root",
        HTTP_CREATED_BY="root",
    )
    assert response.status_code == 201
    assert response.json()["created_by"] is None


def test_a_member_of_staff_without_permission_sees_nothing(client: Client) -> None:
    """A26."""
    row = deployment()
    client.force_login(User.objects.create_user("clerk", password=None, is_staff=True))
    base = "/admin/deployments/deployment"
    for path in (f"{base}/", f"{base}/{row.pk}/change/", f"{base}/{row.pk}/history/", f"{base}/{row.pk}/delete/", f"{base}/add/"):
        assert client.get(path).status_code == 403, path
    target = {"app_label": "deployments", "model_name": "deploymentschedule", "field_name": "deployment"}
    assert client.get("/admin/autocomplete/", target).status_code in {403, 404}
    assert client.post(f"{base}/", {"action": "delete_selected", "_selected_action": str(row.pk)}).status_code == 403
    assert type(row).objects.filter(pk=row.pk).exists()


def test_pages_and_answers_say_how_they_may_be_shown(client: Client) -> None:
    """A27."""
    page = client.get("/admin/login/")
    assert page["X-Frame-Options"] == "DENY"
    assert page["Referrer-Policy"] == "same-origin"
    assert page["X-Content-Type-Options"] == "nosniff"
    assert client.get("/api/health")["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*"])
def test_the_api_answers_json_whatever_a_browser_asks_for(client: Client, accept: str) -> None:
    """A28."""
    for path in ("/api/deployments/filter", "/api/flows/name/none"):
        response = client.get(path, HTTP_ACCEPT=accept)
        assert response["Content-Type"].startswith("application/json")

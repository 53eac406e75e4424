"""The web UI that the reference's package carries, served by us; and the pages beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import clear_url_caches

from orchestrator.console import ui


@pytest.fixture(autouse=True)
def looked_for_anew() -> Iterator[None]:
    ui.builds.cache_clear()
    yield
    ui.builds.cache_clear()
    clear_url_caches()


def test_a_browser_is_led_to_the_ui_and_gets_its_pages(client: Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer["Location"]) == (307, "/v2/")
    page = client.get("/v2/").content.decode()
    assert "<html" in page and "REPLACE_PLACEHOLDER" not in page
    assert client.get("/v2/runs/flow-run/any").content.decode() == page
    script = next(part.split('"')[0] for part in page.split('src="')[1:])
    answer = client.get(script)
    assert answer.status_code == 200
    assert "javascript" in answer["Content-Type"]
    assert "immutable" in answer["Cache-Control"]
    assert b"REPLACE_PLACEHOLDER" not in answer.content


def test_the_older_ui_is_there_for_who_chose_it(client: Client) -> None:
    client.cookies["prefect_ui_version"] = "v1"
    page = client.get("/")
    assert page.status_code == 200
    assert client.get("/runs").content == page.content


def test_the_ui_is_told_where_the_api_is(client: Client, settings: Any) -> None:
    told = client.get("/ui-settings").json()
    assert told["api_url"] == "http://testserver/api"
    assert (told["auth"], told["csrf_enabled"], told["available_uis"]) == (None, False, ["v1", "v2"])
    settings.API_AUTH_STRING = "a:b"
    assert client.get("/v2/ui-settings").json()["auth"] == "BASIC"


@pytest.mark.parametrize("path", ["/v2/../../../../etc/passwd", "/v2/%2e%2e/%2e%2e/settings.py", "/v2//etc/passwd", "/v2/\0"])
def test_no_file_outside_of_the_build_is_served(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in {200, 400, 404}
    assert b"root:" not in answer.content and b"SECRET_KEY" not in answer.content


def test_without_a_ui_the_operators_console_is_the_first_page(client: Client, settings: Any) -> None:
    settings.UI_ENABLED = False
    answer = client.get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


@pytest.mark.django_db
def test_the_api_describes_itself(client: Client) -> None:
    document = client.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert "/api/flow_runs/filter" in document["paths"]
    page = client.get("/docs")
    assert page.status_code == 200
    assert b"/static/drf_spectacular_sidecar/" in page.content
    assert b"cdn." not in page.content


def test_the_site_has_an_icon(client: Client) -> None:
    assert client.get("/favicon.ico")["Content-Type"] == "image/svg+xml"

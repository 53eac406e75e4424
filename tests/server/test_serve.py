"""`manage.py serve`, from nothing."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import awaited, is_alive


@pytest.fixture
def serve(start: Callable[..., Any], tmp_path: Path, port: int) -> Callable[..., Any]:
    """Start the server on an empty home with these options."""

    def starter(*options: str, **environment: str) -> Any:
        home = {"ORCHESTRATOR_HOME": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path / 'home.sqlite3'}"}
        return start("manage.py", "serve", "--port", str(port), *options, **(home | environment))

    return starter


def post(port: int, path: str) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def answers(port: int) -> bool:
    try:
        return post(port, "/api/flows/filter") == []
    except (OSError, urllib.error.URLError):
        return False


def test_from_nothing_to_an_answer_and_a_clean_stop(serve: Callable[..., Any], port: int) -> None:
    started = serve()
    started.await_text("Ready.")
    assert f"http://127.0.0.1:{port}/api" in started.printed
    assert answers(port)
    family = awaited(lambda: len(pids := started.children()) == 2 and pids, "one worker and the services")
    assert started.end() == 0
    assert not any(map(is_alive, family))
    assert "Traceback" not in started.printed


def test_a_killed_worker_is_replaced(serve: Callable[..., Any], port: int) -> None:
    started = serve("--no-services")
    started.await_text("Ready.")
    worker = awaited(lambda: len(pids := started.children()) == 1 and pids[0], "the worker alone")
    os.kill(worker, signal.SIGKILL)
    awaited(lambda: worker not in started.children() and answers(port), "a new worker")
    assert "api-1" in started.printed


def test_nothing_is_left_of_a_killed_server(serve: Callable[..., Any], port: int) -> None:
    started = serve("--workers", "2")
    started.await_text("Ready.")
    family = awaited(lambda: len(pids := started.children()) == 3 and pids, "two workers and the services")
    started.end(signal.SIGKILL)
    awaited(lambda: not any(map(is_alive, family)), "the family to end")


def test_a_second_server_on_the_same_port_says_so_and_ends(serve: Callable[..., Any], port: int) -> None:
    first = serve("--no-services")
    first.await_text("Ready.")
    second = serve("--no-services")
    assert second.process.wait(30) == 1
    assert "is taken by another server" in second.printed
    assert answers(port)


def test_a_server_that_anyone_could_reach_asks_for_a_password_first(serve: Callable[..., Any]) -> None:
    started = serve("--host", "0.0.0.0")
    assert started.process.wait(30) == 1
    assert "without authentication" in started.printed


def test_a_server_without_its_tables_says_what_to_do(serve: Callable[..., Any]) -> None:
    started = serve("--no-migrate")
    assert started.process.wait(30) == 1
    assert "manage.py migrate" in started.printed


def test_log_lines_are_json_when_asked_for(serve: Callable[..., Any]) -> None:
    started = serve("--no-migrate", "--log-format", "json")
    assert started.process.wait(30) == 1
    event = json.loads(started.printed.splitlines()[0])
    assert event["level"] == "ERROR"

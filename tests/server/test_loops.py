"""Background loops go on after errors and stop when told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core.loops import Loop


class Scripted(Loop):
    """Does the steps given, one a poll, then tells itself to stop."""

    name = "scripted"
    interval_seconds = 0.001

    def __init__(self, steps: list[float | Exception]) -> None:
        self.steps = steps
        self.stop = threading.Event()
        self.polls = 0

    def poll(self) -> float:
        self.polls += 1
        step = self.steps.pop(0)
        if not self.steps:
            self.stop.set()
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.core.loops.close_old_connections", lambda: None)
    monkeypatch.setattr("orchestrator.core.loops.connections.close_all", lambda: None)


def test_a_loop_polls_again_at_once_while_there_is_more() -> None:
    loop = Scripted([0, 0, 3600])
    loop.run(loop.stop)
    assert loop.polls == 3


def test_an_error_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    loop = Scripted([RuntimeError("database away"), RuntimeError("still away"), 0])
    with caplog.at_level(logging.ERROR):
        loop.run(loop.stop)
    assert loop.polls == 3
    assert caplog.text.count("Service scripted failed") == 2
    assert "database away" in caplog.text


def test_a_loop_waits_longer_while_errors_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    loop = Scripted([RuntimeError()] * 12 + [1.5, RuntimeError(), 0])
    loop.interval_seconds = 1.0
    monkeypatch.setattr(loop.stop, "wait", waits.append)
    loop.run(loop.stop)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 1.5, 2]


def test_a_sleeping_loop_stops_when_told() -> None:
    loop = Scripted([3600, 0])
    thread = threading.Thread(target=loop.run, args=(loop.stop,))
    thread.start()
    loop.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert loop.polls <= 1


def test_the_services_stop_on_a_signal(start: Callable[..., Any]) -> None:
    script = """
import time
from orchestrator.core.loops import Loop, run_until_signalled
import django
from django.conf import settings
settings.configure()
class One(Loop):
    name = "one"
    def poll(self):
        print("polled", flush=True)
        return 3600
run_until_signalled([One(), One()])
print("stopped", flush=True)
"""
    started = start("-c", script)
    started.await_text("polled", times=2)
    assert started.end() == 0
    assert "stopped" in started.printed

"""A family of processes lives and dies together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.server.supervisor import LONGEST_PAUSE_SECONDS, STEADY_SECONDS, Child

from .conftest import awaited, is_alive

PREAMBLE = """
import os, signal, sys, threading, time
from orchestrator.server.supervisor import Child, Supervisor

def say(line):
    # One write: the children share a file, and a line in pieces would be mixed with the other's.
    os.write(1, f"{line}\\n".encode())

def obedient():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    say(f"up {os.getpid()}")
    stop.wait()
    say("finished")

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(f"up {os.getpid()}")
    while True:
        time.sleep(60)

def crashing():
    say(f"up {os.getpid()}")
    raise RuntimeError("no luck")
"""


@pytest.fixture
def family(start: Callable[..., Any]) -> Callable[..., Any]:
    def starter(*children: str, grace_seconds: float = 10) -> Any:
        listed = ", ".join(f"Child({name!r}, {name})" for name in children)
        started = start("-c", f"{PREAMBLE}\nsys.exit(Supervisor([{listed}], {grace_seconds}).run())")
        started.await_text("up ", times=len(children))
        return started

    return starter


def pids(started: Any) -> list[int]:
    return [int(line.split()[1]) for line in started.printed.splitlines() if line.startswith("up ")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_every_child_finish_and_ends_well(family: Callable[..., Any], number: signal.Signals) -> None:
    started = family("obedient", "obedient")
    assert started.end(number) == 0
    assert started.printed.count("finished") == 2
    assert not any(map(is_alive, pids(started)))


def test_a_child_that_does_not_stop_is_killed_after_the_grace_period(family: Callable[..., Any]) -> None:
    started = family("obedient", "stubborn", grace_seconds=0.2)
    assert started.end() == 1
    assert started.printed.count("finished") == 1
    assert not any(map(is_alive, pids(started)))


def test_a_second_signal_ends_the_wait(family: Callable[..., Any]) -> None:
    started = family("stubborn", "obedient", grace_seconds=3600)
    started.process.terminate()
    started.await_text("finished")
    assert started.end() == 1
    assert not any(map(is_alive, pids(started)))


def test_a_crashed_child_starts_again_and_the_others_live_on(family: Callable[..., Any]) -> None:
    started = family("crashing", "obedient")
    started.await_text("up ", times=3)
    assert "no luck" in started.printed
    assert started.end() == 0
    assert started.printed.count("finished") == 1


def test_a_killed_child_starts_again(family: Callable[..., Any]) -> None:
    started = family("obedient")
    os.kill(pids(started)[0], signal.SIGKILL)
    started.await_text("up ", times=2)
    assert started.end() == 0


@pytest.mark.parametrize("child", ["obedient", "stubborn"])
def test_no_child_outlives_a_killed_supervisor(family: Callable[..., Any], child: str) -> None:
    started = family(child, child, grace_seconds=0.2)
    started.end(signal.SIGKILL)
    awaited(lambda: not any(map(is_alive, pids(started))), "the children to end")


def test_pauses_between_crashes_grow_to_a_limit_and_a_long_life_is_rewarded() -> None:
    child = Child("c", lambda: None)
    pauses = [child.ended(now=1.0) for _ in range(8)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    assert child.ended(now=STEADY_SECONDS) == 0.5


def test_a_child_that_runs_once_is_not_started_again() -> None:
    child = Child("c", lambda: None, once=True)
    assert child.ended(now=1.0) is None
    assert child.due is None

"""Real processes, watched from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SECONDS = 30.0


def awaited(found: Callable[[], Any], what: str | Callable[[], str]) -> Any:
    """What `found` returns once that is true; fails when it takes too long."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process whose parent is gone may wait for init to notice: it is dead all the same.
    with suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return True


class Started:
    """A process that a test started, what it has printed so far, and the processes it said it is."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def await_text(self, text: str, times: int = 1) -> None:
        awaited(lambda: self.printed.count(text) >= times, lambda: f"{text!r} in {self.printed!r}")

    def children(self) -> list[int]:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split() if is_alive(int(pid))]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start Python with these arguments; whatever is left of it is killed after the test."""
    started: list[Started] = []

    def starter(*arguments: str, **environment: str) -> Started:
        log = tmp_path / f"output-{len(started)}"
        started.append(Started([sys.executable, *arguments], environment, log))
        return started[-1]

    yield starter
    for each in started:
        with suppress(ProcessLookupError):
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.wait(SECONDS)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number

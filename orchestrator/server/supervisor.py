"""A family of forked processes: started, restarted when they crash, stopped together, and never left behind."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

STOPS = (signal.SIGTERM, signal.SIGINT)
WATCHED = (*STOPS, signal.SIGCHLD)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# A child that has lived this long was well: its next crash counts as its first.
STEADY_SECONDS = 60.0


@dataclass
class Child:
    """`run` in a process of its own. It ends by returning, soon after SIGTERM; one that runs `once` is not restarted."""

    name: str
    run: Callable[[], object]
    once: bool = False
    pid: int = field(default=0, init=False)
    started: float = field(default=0.0, init=False)
    crashes: int = field(default=0, init=False)
    due: float | None = field(default=0.0, init=False)

    def ended(self, now: float) -> float | None:
        """Note the end; the seconds until it should be started again, None for never."""
        if self.once:
            self.due = None
            return None
        self.crashes = 1 if now - self.started >= STEADY_SECONDS else self.crashes + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self.crashes - 1))
        self.due = now + pause
        return pause


class Supervisor:
    """Runs children until SIGTERM or SIGINT, then gives them `grace_seconds` to finish; a second signal ends the wait.

    The children are forks, so what this process has loaded is shared with them. It must have no thread and no open
    connection. When it is killed the children see the end of a pipe and stop by themselves.
    """

    def __init__(self, children: list[Child], grace_seconds: float = 15.0) -> None:
        self.children = children
        self.grace_seconds = grace_seconds
        self.running: dict[int, Child] = {}
        self.kill_at: float | None = None
        self.lifeline = os.pipe()

    @property
    def stopping(self) -> bool:
        return self.kill_at is not None

    def run(self) -> int:
        """The exit code: 0 after a clean stop, 1 when a child had to be killed."""
        killed = False
        with signals_to_pipe() as signals:
            while self.running or not self.stopping:
                now = time.monotonic()
                if not self.stopping:
                    self.start_due(now)
                elif not killed and now >= self.kill_at:  # type: ignore[operator]
                    killed = True
                    self.signal_all(signal.SIGKILL)
                ready, _, _ = select.select([signals], [], [], self.seconds_to_wait(now, killed))
                received = os.read(signals, 4096) if ready else b""
                self.reap()
                for _ in filter(STOPS.__contains__, received):
                    self.stop()
        return int(killed)

    def start_due(self, now: float) -> None:
        for child in self.children:
            if child.due is not None and child.due <= now:
                child.due = None
                child.started = now
                child.pid = self.fork(child)
                self.running[child.pid] = child

    def seconds_to_wait(self, now: float, killed: bool) -> float | None:
        if self.kill_at is not None:
            return None if killed else max(0.0, self.kill_at - now)
        return min((max(0.0, child.due - now) for child in self.children if child.due is not None), default=None)

    def reap(self) -> None:
        """Take note of every child that has ended."""
        for pid in list(self.running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            child = self.running.pop(pid)
            pause = child.ended(time.monotonic())
            if self.stopping or pause is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            log.error("%s (process %d) %s; it starts again in %.1f s", child.name, pid, how, pause)

    def stop(self) -> None:
        """Ask every child to finish. Asked again, wait no longer."""
        now = time.monotonic()
        self.kill_at = now if self.stopping else now + self.grace_seconds
        self.signal_all(signal.SIGTERM)

    def signal_all(self, number: signal.Signals) -> None:
        for pid in self.running:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def fork(self, child: Child) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal between fork and the child's first steps would be written to the parent's pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            if pid := os.fork():
                return pid
            code = 1
            try:
                code = self.become(child)
            finally:
                os._exit(code)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)

    def become(self, child: Child) -> int:
        """In the child: run it; the exit code."""
        signal.set_wakeup_fd(-1)
        for number in WATCHED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        os.close(self.lifeline[1])
        watch = threading.Thread(target=die_with_parent, args=(self.lifeline[0], self.grace_seconds), daemon=True)
        watch.start()
        code = 1
        try:
            child.run()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        except BaseException:
            log.exception("%s failed", child.name)
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        return code


def die_with_parent(lifeline: int, grace_seconds: float) -> None:
    """Wait for the end of the pipe that only the parent writes to; then stop this process, at last by force."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds)
    os._exit(1)


@contextmanager
def signals_to_pipe() -> Iterator[int]:
    """The reading end of a pipe that gets the number of each watched signal as a byte."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in WATCHED}
    former = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(former)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)

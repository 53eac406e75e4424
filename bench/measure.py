"""CPU time of process trees, a lean keep-alive HTTP client, and the samples both make."""

from __future__ import annotations

import http.client
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import orjson

TICKS = os.sysconf("SC_CLK_TCK")
BUSY = 503
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class CpuClock(Protocol):
    def seconds(self) -> float:
        """CPU seconds, user and system, spent so far by everything that serves."""


@dataclass(frozen=True)
class ProcessStat:
    """One line of `/proc/<pid>/stat`; `seconds` includes the children it has already waited for."""

    pid: int
    parent: int
    seconds: float
    rss_bytes: int


def process_stat(pid: int) -> ProcessStat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command in parentheses may hold blanks: what follows the last one is what proc(5) calls field 3 and on.
    fields = text.rpartition(")")[2].split()
    return ProcessStat(pid, int(fields[1]), sum(map(int, fields[11:15])) / TICKS, int(fields[21]) * PAGE_BYTES)


def process_tree(root: int) -> list[ProcessStat]:
    """`root` and all its descendants that live now."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    by_parent: dict[int, list[ProcessStat]] = {}
    for stat in filter(None, map(process_stat, pids)):
        by_parent.setdefault(stat.parent, []).append(stat)
    first = process_stat(root)
    tree = [first] if first else []
    for stat in tree:
        tree.extend(by_parent.get(stat.pid, ()))
    return tree


@dataclass(frozen=True)
class TreeClock:
    """CPU time of a process and its descendants. A child that ended is counted by the parent that waited for it."""

    root: int

    def seconds(self) -> float:
        return sum(stat.seconds for stat in process_tree(self.root))


@dataclass
class DatabaseClock:
    """CPU time of a PostgreSQL cluster, less the connections to other databases than `database`."""

    root: int
    database: str
    foreign: dict[int, float] = field(default_factory=dict)

    def seconds(self) -> float:
        tree = process_tree(self.root)
        # What a foreign connection had spent stays subtracted after its end: the cluster's own total keeps it too.
        self.foreign |= {stat.pid: stat.seconds for stat in tree if self._is_foreign(stat.pid)}
        return sum(stat.seconds for stat in tree) - sum(self.foreign.values())

    def _is_foreign(self, pid: int) -> bool:
        # A connection's process title: "postgres: <user> <database> <client> <activity>".
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split()
        except OSError:
            return pid in self.foreign
        is_connection = len(title) > 3 and title[:2] == ["postgres:", "postgres"]
        return is_connection and title[2] != self.database


@dataclass(frozen=True)
class SumClock:
    parts: tuple[CpuClock, ...]

    def seconds(self) -> float:
        return sum(part.seconds() for part in self.parts)


def wait_until_quiet(clock: CpuClock, at_most_seconds: float = 3.0, step_seconds: float = 0.1) -> None:
    """Wait for the work that a server does after it has answered: until a step costs next to no CPU."""
    deadline = time.perf_counter() + at_most_seconds
    before = clock.seconds()
    while time.perf_counter() < deadline:
        time.sleep(step_seconds)
        after = clock.seconds()
        if after - before < step_seconds / 5:
            return
        before = after


class BadAnswer(Exception):
    """The server refused a request that it should serve."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes | None = None

    @classmethod
    def post(cls, path: str, body: object) -> Request:
        return cls("POST", path, orjson.dumps(body))

    @classmethod
    def get(cls, path: str) -> Request:
        return cls("GET", path)


class Client:
    """One keep-alive connection that sends the same bytes to whichever server it is given."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.refusals = 0
        self.connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def reconnect(self) -> None:
        """Start a new connection: an idle one may have been closed by the server."""
        self.connection.close()
        self.connection = self._connect()

    def fetch(self, request: Request, encoding: str = "identity") -> bytes:
        """The answer's body as sent. Repeats what was refused with 503, as Prefect's client does.

        Raises BadAnswer for every other status but 2xx.
        """
        for pause_seconds in (0.05, 0.2, 0.5):
            status, body = self.exchange(request, encoding)
            if status != BUSY:
                break
            self.refusals += 1
            # A server may close the connection on which it has failed.
            self.reconnect()
            time.sleep(pause_seconds)
        if status // 100 != 2:
            raise BadAnswer(f"{request.method} {request.path}: {status} {body[:200]!r}")
        return body

    def exchange(self, request: Request, encoding: str = "identity") -> tuple[int, bytes]:
        """Status and body of one request sent once."""
        connection = self.connection
        connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", "localhost")
        connection.putheader("Accept-Encoding", encoding)
        if request.body is not None:
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        response = connection.getresponse()
        return response.status, response.read()

    def json(self, request: Request) -> object:
        body = self.fetch(request)
        return orjson.loads(body) if body else None

    def object(self, request: Request) -> dict[str, object]:
        """The JSON object that answers `request`. Raises BadAnswer for anything else."""
        answer = self.json(request)
        if not isinstance(answer, dict):
            raise BadAnswer(f"{request.method} {request.path}: not an object")
        return answer


@dataclass(frozen=True)
class Sample:
    """One round of one operation on one server: CPU milliseconds each, wall milliseconds of each, how long in all."""

    cpu_ms: float
    wall_ms: tuple[float, ...]
    elapsed_seconds: float

    @property
    def per_second(self) -> float:
        return len(self.wall_ms) / self.elapsed_seconds


Act = Callable[[], object]


def sample(clock: CpuClock, acts: Iterable[Act]) -> Sample:
    """Perform `acts` one after the other; the CPU includes what they leave to be done in the background."""
    wall = []
    cpu = clock.seconds()
    started = time.perf_counter()
    for act in acts:
        begun = time.perf_counter()
        act()
        wall.append((time.perf_counter() - begun) * 1000)
    elapsed = time.perf_counter() - started
    wait_until_quiet(clock)
    return Sample((clock.seconds() - cpu) * 1000 / len(wall), tuple(wall), elapsed)


def repeated(act: Act, seconds: float, at_least: int = 3) -> Iterator[Act]:
    """`act` again and again until `seconds` have passed."""
    deadline = time.perf_counter() + seconds
    done = 0
    while done < at_least or time.perf_counter() < deadline:
        yield act
        done += 1


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median_of(values: Iterable[float]) -> float:
    return statistics.median(values)

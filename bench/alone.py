"""What is measured on our server alone: its scheduler, its footprint, many clients at once, growth of the store."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

from bench.measure import Client, DatabaseClock, Request, repeated, sample, wait_until_quiet
from bench.operations import HAND_OUT, PAGE
from bench.report import Figure
from bench.servers import OURS, ROOT, Ground, Server, ServerFailed, Store
from bench.stores import POOL, Size, World, count_of_our_runs, fill

MEGABYTE = 1024 * 1024
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How large the stores are and how long each watch lasts."""

    fill_deployments: int = 10_000
    idle_seconds: float = 20.0
    crowd_seconds: float = 4.0
    many_runs: int = 200_000


QUICK = Scale(fill_deployments=1_000, idle_seconds=8.0, crowd_seconds=1.5, many_runs=20_000)


# --- the scheduler ---------------------------------------------------------------------------------------------------


def _database_seconds(ground: Ground, store: Store) -> Callable[[], float]:
    if ground.cluster is None:
        return lambda: 0.0
    return DatabaseClock(ground.cluster.process.pid, store.name).seconds


def _cpu_of(ground: Ground, store: Store, command: list[str]) -> tuple[float, str]:
    """CPU seconds of a command and of the database for it, and what it printed."""
    database = _database_seconds(ground, store)
    before = database()
    process = subprocess.Popen(
        command, env=OURS.environment(store), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ServerFailed(f"{' '.join(command[1:])}: {printed[-1000:]}")
    return usage.ru_utime + usage.ru_stime + database() - before, printed


def _schedule_once(ground: Ground, store: Store) -> float:
    return _cpu_of(ground, store, [sys.executable, "manage.py", "schedule_runs", "--once"])[0]


def _passes(ground: Ground, store: Store, number: int) -> float:
    """CPU milliseconds of one scheduler pass in a process that has made one already."""
    spent, printed = _cpu_of(ground, store, [sys.executable, "-m", "bench.passes", str(number)])
    if ground.cluster is None:
        found: dict[str, float] = json.loads(printed.splitlines()[-1])
        return found["cpu_ms"]
    # With the database's share the process as a whole is measured, less one that makes a single pass.
    start, _ = _cpu_of(ground, store, [sys.executable, "-m", "bench.passes", "1"])
    return (spent - start) * 1000 / (number - 1)


def scheduler(ground: Ground, world_of: Callable[[Size], World], scale: Scale, say: Say) -> Iterator[Figure]:
    allowed = (9.0 if ground.cluster is None else 15.0) * scale.fill_deployments / 10_000
    for deployments in sorted({100, scale.fill_deployments}):
        say(f"scheduler: filling {deployments:,} deployments")
        store = ground.store(f"scheduler_{deployments}")
        fill("ours", store, world_of(Size(deployments=deployments, runs=0, due=0)))
        spent = _schedule_once(ground, store)
        if deployments == scale.fill_deployments:
            yield Figure(
                f"First fill of {deployments:,} deployments ({count_of_our_runs(store):,} runs), CPU",
                f"{spent:.1f} s", f"{allowed:.1f} s", spent <= allowed,
            )  # fmt: skip
        say(f"scheduler: passes with nothing due at {deployments:,} deployments")
        pass_ms = _passes(ground, store, 201)
        yield Figure(
            f"Scheduler pass with nothing due, {deployments:,} deployments, CPU",
            f"{pass_ms:.2f} ms", "5 ms", pass_ms <= 5,
        )  # fmt: skip


# --- footprint -------------------------------------------------------------------------------------------------------


def footprint(ground: Ground, world_of: Callable[[Size], World], scale: Scale, say: Say) -> Iterator[Figure]:
    """Of a server with all its services, on a store whose schedules are filled."""
    say("footprint: start, memory, idling")
    store = ground.store("footprint")
    fill("ours", store, world_of(Size(deployments=100, runs=0, due=0)))
    _schedule_once(ground, store)
    with OURS.serving(store, ground.cluster, extra={}) as server:
        ready = server.ready_cpu_seconds
        yield Figure("CPU until ready", f"{ready:.2f} s", "1 s", ready <= 1)
        client = server.client()
        for _ in range(20):
            client.fetch(Request.post("/api/deployments/filter", {"limit": PAGE}))
        client.connection.close()
        sizes = [size / MEGABYTE for size in server.rss_bytes()]
        shown = " + ".join(f"{size:.0f}" for size in sizes)
        yield Figure("Resident memory of each process", f"{shown} MB", "70 MB", sizes[0] <= 70)
        wait_until_quiet(server.clock, at_most_seconds=10, step_seconds=0.5)
        before = server.clock.seconds()
        time.sleep(scale.idle_seconds)
        share = (server.clock.seconds() - before) / scale.idle_seconds * 100
        yield Figure(f"Idle CPU over {scale.idle_seconds:.0f} s", f"{share:.2f} %", "0.3 %", share < 0.3)


# --- many clients ----------------------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """Clients that repeat the same mixture, each on its own connection."""

    port: int
    requests: list[Request]
    deadline: float
    answered: int = 0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def join(self, number: int) -> None:
        client = Client(self.port)
        answered = 0
        errors: list[str] = []
        mixture = cycle(self.requests[number % len(self.requests) :] + self.requests[: number % len(self.requests)])
        while time.monotonic() < self.deadline:
            request = next(mixture)
            try:
                status, body = client.exchange(request)
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                client.reconnect()
                continue
            if status // 100 == 2:
                answered += 1
            else:
                errors.append(f"{request.path}: {status} {body[:100]!r}")
        client.connection.close()
        with self.lock:
            self.answered += answered
            self.errors += errors


def _crowd(server: Server, world: World, clients: int, seconds: float) -> Crowd:
    deployment = world.deployments[13]
    requests = [
        Request.get(f"/api/deployments/{deployment.id}"),
        Request.post("/api/flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [str(deployment.id)]}}}),
        Request.post(f"/api/deployments/{deployment.id}/create_flow_run", {"tags": ["crowd"]}),
        HAND_OUT[2].request(world),
    ]
    crowd = Crowd(server.port, requests, time.monotonic() + seconds)
    threads = [threading.Thread(target=crowd.join, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return crowd


def crowd(server: Server, world: World, scale: Scale, say: Say) -> Iterator[Figure]:
    """Sixteen clients beside one, on the store that the comparison has used; every fourth request is a write."""
    say("sixteen clients at once")
    _crowd(server, world, 1, scale.crowd_seconds / 2)
    single = _crowd(server, world, 1, scale.crowd_seconds)
    many = _crowd(server, world, 16, scale.crowd_seconds)
    wait_until_quiet(server.clock)
    errors = len(single.errors) + len(many.errors)
    example = f", e.g. {(many.errors + single.errors)[0][:80]!r}" if errors else ""
    yield Figure("Sixteen clients at once: errors", f"{errors}{example}", "0", errors == 0)
    rates = [found.answered / scale.crowd_seconds for found in (many, single)]
    yield Figure(
        "Sixteen clients at once: requests a second", f"{rates[0]:,.0f}", f"{rates[1]:,.0f} (one client)",
        rates[0] >= rates[1],
    )  # fmt: skip


# --- growth ----------------------------------------------------------------------------------------------------------


def _growth_requests(world: World) -> dict[str, Request]:
    count = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    due = {"scheduled_before": world.now.isoformat(), "limit": PAGE}
    return {
        "flow_runs/filter, 200": Request.post("/api/flow_runs/filter", {"limit": PAGE}),
        "flow_runs/count of scheduled runs": Request.post("/api/flow_runs/count", count),
        "hand-out to a worker": Request.post(f"/api/work_pools/{POOL}/get_scheduled_flow_runs", due),
    }


def growth(ground: Ground, world_of: Callable[[Size], World], scale: Scale, say: Say) -> Iterator[Figure]:
    """CPU of the same answer from a small and a large store: as many runs are due in both."""
    found: dict[str, list[float]] = {}
    for runs in (1_000, scale.many_runs):
        say(f"growth: {runs:,} runs")
        store = ground.store(f"growth_{runs}")
        world = world_of(Size(deployments=200, runs=runs, due=500))
        fill("ours", store, world)
        with OURS.serving(store, ground.cluster) as server:
            client = server.client()
            for label, request in _growth_requests(world).items():
                client.fetch(request)
                measured = sample(server.clock, repeated(partial(client.fetch, request), 1.0))
                found.setdefault(label, []).append(measured.cpu_ms)
    for label, (small, large) in found.items():
        factor = large / small if small else float("inf")
        yield Figure(
            f"{label}: CPU at {scale.many_runs:,} runs over 1,000", f"{factor:.2f}x ({small:.2f} → {large:.2f} ms)",
            "1.3x", factor <= 1.3,
        )  # fmt: skip

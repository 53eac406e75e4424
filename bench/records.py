"""What runs leave behind, measured on both servers: log lines, task runs told of in events, graphs, contended slots."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

from bench.measure import BadAnswer, Request
from bench.operations import Operation, Scenario, Stage

LOGS_100 = Operation("logs-100", "POST logs, 100 lines", 30)
LOGS_500 = Operation("logs-500", "POST logs, 500 lines", 60)
LOGS_FILTER = Operation("logs-filter", "logs/filter, 200 lines of a run", 8)
EVENTS = Operation("events", "Task-run events, 100 task runs in 300 events", 20)
GRAPH = Operation("graph", "Graph of a run with 1,000 task runs", 20)
CONTENDED = Operation("contended", "Slot of a full limit", 10)

LOCKED = 423
GRAPH_RUNS = 1_000
GRAPH_SECONDS = 120


def _flow_run(stage: Stage) -> str:
    body = {"flow_id": str(stage.world.flows[2].id), "state": {"type": "RUNNING"}}
    return str(stage.client.object(Request.post("/api/flow_runs/", body))["id"])


def _lines(run: str, number: int) -> Request:
    at = datetime.now(UTC)
    lines = [
        {
            "name": "prefect.flow_runs",
            "level": 20,
            "message": f"Line {i} of a run that tells what it does, in about a hundred characters as they are usual",
            "timestamp": (at + timedelta(milliseconds=i)).isoformat(),
            "flow_run_id": run,
            "task_run_id": None,
        }
        for i in range(number)
    ]
    return Request.post("/api/logs/", lines)


def _play_logs(stage: Stage) -> None:
    run = _flow_run(stage)
    stage.client.fetch(_lines(run, 100))
    for operation, number in ((LOGS_100, 100), (LOGS_500, 500)):
        request = _lines(run, number)
        stage.measure(operation.key, [partial(stage.client.fetch, request)] * stage.effort.writes)
    body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
    act = partial(stage.client.fetch, Request.post("/api/logs/filter", body))
    stage.measure(LOGS_FILTER.key, [act] * (4 * stage.effort.writes))


def _events(run: str, number: int) -> list[dict[str, object]]:
    """The three states of each of so many task runs, as the client tells of them."""
    begun = datetime.now(UTC)
    events: list[dict[str, object]] = []
    for i in range(number):
        task, key = str(uuid4()), str(uuid4())
        for step, (type_, name) in enumerate((("PENDING", "Pending"), ("RUNNING", "Running"), ("COMPLETED", "Completed"))):
            at = (begun + timedelta(milliseconds=10 * i + step)).isoformat()
            told = {
                "name": f"task-{i}",
                "task_key": "task",
                "dynamic_key": key,
                "tags": ["measured"],
                "labels": {},
                "empirical_policy": {"retries": 0, "retry_delay": 0},
                "task_inputs": {"x": [{"input_type": "parameter", "name": "x"}]},
                "run_count": int(step > 0),
                "flow_run_run_count": 1,
                "expected_start_time": begun.isoformat(),
                "start_time": at if step else None,
                "end_time": at if step == 2 else None,
                "total_run_time": 0.0,
            }
            state = {"type": type_, "name": name, "message": None, "state_details": {"flow_run_id": run}, "data": None}
            related = [{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}]
            events.append(
                {
                    "id": str(uuid4()),
                    "occurred": at,
                    "event": f"prefect.task-run.{name}",
                    "resource": {
                        "prefect.resource.id": f"prefect.task-run.{task}",
                        "prefect.resource.name": f"task-{i}",
                        "prefect.orchestration": "client",
                    },
                    "related": related,
                    "payload": {"validated_state": state, "task_run": told},
                }
            )
    return events


def _recorded(stage: Stage, run: str) -> int:
    body = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    found = stage.client.json(Request.post("/api/task_runs/count", body))
    return found if isinstance(found, int) else 0


def _await_recorded(stage: Stage, run: str, number: int) -> None:
    """Wait for what a server does after it has answered."""
    deadline = time.monotonic() + GRAPH_SECONDS
    while (found := _recorded(stage, run)) < number:
        if time.monotonic() > deadline:
            raise BadAnswer(f"{found} of {number} task runs were recorded in {GRAPH_SECONDS} s")
        time.sleep(0.2)


def _play_events(stage: Stage) -> None:
    run = _flow_run(stage)
    number = max(2, stage.effort.writes // 2)
    requests = [Request.post("/api/events", _events(run, 100)) for _ in range(number)]
    told = 0

    def act(request: Request, last: bool) -> None:
        nonlocal told
        stage.client.fetch(request)
        told += 100
        if last:  # what is recorded after the answer is part of the work
            _await_recorded(stage, run, told)

    acts: list[Callable[[], object]] = [partial(act, each, i == number - 1) for i, each in enumerate(requests)]
    stage.measure(EVENTS.key, acts)


def _play_graph(stage: Stage) -> None:
    run = _flow_run(stage)
    for _ in range(GRAPH_RUNS // 100):
        stage.client.fetch(Request.post("/api/events", _events(run, 100)))
    _await_recorded(stage, run, GRAPH_RUNS)
    request = Request.get(f"/api/flow_runs/{run}/graph-v2")
    stage.sizes[GRAPH.key] = len(stage.client.object(request)["nodes"])  # type: ignore[arg-type]
    stage.measure(GRAPH.key, [partial(stage.client.fetch, request)] * max(3, stage.effort.writes // 2))


def _play_contended(stage: Stage) -> None:
    name = f"full-{stage.name(0)}"
    stage.client.fetch(Request.post("/api/v2/concurrency_limits/", {"name": name, "limit": 1, "active_slots": 1}))
    request = Request.post("/api/v2/concurrency_limits/increment-with-lease", {"names": [name], "slots": 1})

    def act() -> None:
        status, body = stage.client.exchange(request)
        if status not in {LOCKED, 503}:
            raise BadAnswer(f"a full limit answered {status} {body[:100]!r}")

    stage.measure(CONTENDED.key, [act] * (4 * stage.effort.writes))


SCENARIOS = (
    Scenario((LOGS_100, LOGS_500, LOGS_FILTER), _play_logs),
    Scenario((EVENTS,), _play_events),
    Scenario((GRAPH,), _play_graph),
    Scenario((CONTENDED,), _play_contended),
)

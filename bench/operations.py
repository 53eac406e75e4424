"""What is measured on both servers: the operations with their targets, and the scenarios that perform them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from bench.measure import BadAnswer, Client, CpuClock, Request, Sample, repeated, sample, wait_until_quiet
from bench.stores import POOL, World

PAGE = 200
SCHEDULED_RUNS = 1000


@dataclass(frozen=True)
class Operation:
    """`target`: how many times the CPU of ours the reference's should be at least."""

    key: str
    label: str
    target: float


@dataclass(frozen=True)
class Effort:
    """A round's work: seconds of each read, repetitions of each write, and of each write that moves 1,000 runs."""

    read_seconds: float
    writes: int
    bulk: int

    def on(self, side: str) -> Effort:
        # Ours is given more to do: CPU time is counted in ticks of 10 ms, and a few short requests would not show.
        return Effort(self.read_seconds, 4 * self.writes, 4 * self.bulk) if side == "ours" else self


@dataclass
class Stage:
    """One server during one round of one scenario."""

    client: Client
    clock: CpuClock
    world: World
    effort: Effort
    round: int
    samples: dict[str, Sample] = field(default_factory=dict)
    # What the server answered, in rows or as a number: both must answer the same.
    sizes: dict[str, int] = field(default_factory=dict)

    def measure(self, key: str, acts: Iterable[Callable[[], object]]) -> None:
        self.client.reconnect()
        self.client.fetch(Request.get("/api/health"))
        wait_until_quiet(self.clock)
        self.samples[key] = sample(self.clock, acts)

    def name(self, number: int) -> str:
        """A name that is new in this store and the same in the other."""
        return f"measured-{self.round}-{number}"


def _size(answer: object) -> int:
    match answer:
        case list():
            return len(answer)
        case {"results": list(results)}:
            return len(results)
        case int():
            return answer
    return 0


@dataclass(frozen=True)
class Read:
    """A request repeated as it is."""

    operation: Operation
    request: Callable[[World], Request]
    encoding: str = "identity"

    @property
    def operations(self) -> tuple[Operation, ...]:
        return (self.operation,)

    def play(self, stage: Stage) -> None:
        request = self.request(stage.world)
        stage.client.reconnect()
        stage.sizes[self.operation.key] = _size(stage.client.json(request))
        act = partial(stage.client.fetch, request, self.encoding)
        stage.measure(self.operation.key, repeated(act, stage.effort.read_seconds))


@dataclass(frozen=True)
class Scenario:
    """Several steps in order, some measured, the others preparing them."""

    operations: tuple[Operation, ...]
    play: Callable[[Stage], None]


# --- reads -----------------------------------------------------------------------------------------------------------


def _ago(world: World, **spans: float) -> str:
    return (world.now - timedelta(**spans)).isoformat()


def _posted(path: str, body: Callable[[World], object]) -> Callable[[World], Request]:
    return lambda world: Request.post(f"/api{path}", body(world))


def _by_id(world: World) -> Request:
    return Request.get(f"/api/deployments/{world.deployments[7].id}")


def _by_name(world: World) -> Request:
    return Request.get(f"/api/deployments/name/{world.deployments[7].flow.name}/{world.deployments[7].name}")


def _flow_and_pool(world: World) -> object:
    return {"flows": {"name": {"like_": "flow-"}}, "work_pools": {"name": {"any_": [POOL]}}, "limit": PAGE}


def _week(world: World) -> object:
    return {"after_": _ago(world, days=7), "before_": _ago(world, hours=0)}


def _window_with_joins(world: World) -> object:
    return {
        "flow_runs": {"start_time": {"after_": _ago(world, days=3), "before_": _ago(world, days=1)}},
        "flows": {"name": {"like_": "flow-0"}},
        "deployments": {"tags": {"all_": ["bench"]}},
        "work_pools": {"name": {"any_": [POOL]}},
        "sort": "START_TIME_DESC",
        "limit": PAGE,
    }


def _history(world: World) -> object:
    return {
        "history_start": _ago(world, days=7),
        "history_end": _ago(world, hours=0),
        "history_interval_seconds": 7200.0,
        "flow_runs": {"expected_start_time": _week(world)},
    }


def _due(world: World) -> dict[str, object]:
    return {"scheduled_before": (world.now + timedelta(seconds=10)).isoformat(), "limit": PAGE}


def _due_of_deployments(world: World) -> object:
    return _due(world) | {"deployment_ids": [str(row.id) for row in world.deployments]}


def _due_of_a_queue(world: World) -> object:
    return _due(world) | {"work_queue_names": [world.queues[3].name]}


DEPLOYMENT_READS = (
    Read(Operation("deployment-by-id", "Deployment by id", 20), _by_id),
    Read(Operation("deployment-by-name", "Deployment by name", 20), _by_name),
    Read(
        Operation("deployments-filter", "deployments/filter, 200", 60),
        _posted("/deployments/filter", lambda world: {"limit": PAGE}),
    ),
    Read(
        Operation("deployments-filter-joined", "deployments/filter, 200 by flow and pool", 50),
        _posted("/deployments/filter", _flow_and_pool),
    ),
    Read(
        Operation("deployments-filter-tags", "deployments/filter, by tags", 60),
        _posted("/deployments/filter", lambda world: {"deployments": {"tags": {"all_": ["bench", "team-3"]}}}),
    ),
    Read(
        Operation("deployments-paginate", "deployments/paginate, page 5 of 50", 40),
        _posted("/deployments/paginate", lambda world: {"limit": 50, "page": 5}),
    ),
    Read(
        Operation("deployments-count", "deployments/count, by flow", 10),
        _posted("/deployments/count", lambda world: {"flows": {"name": {"any_": [world.flows[3].name]}}}),
    ),
)
FLOW_RUN_READS = (
    Read(
        Operation("runs-filter", "flow_runs/filter, 200", 20),
        _posted("/flow_runs/filter", lambda world: {"limit": PAGE}),
    ),
    Read(
        Operation("runs-filter-gzip", "flow_runs/filter, 200, gzip", 20),
        _posted("/flow_runs/filter", lambda world: {"limit": PAGE}),
        encoding="gzip",
    ),
    Read(
        Operation("runs-filter-state", "flow_runs/filter, 200 by state", 20),
        _posted("/flow_runs/filter", lambda world: {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}, "limit": PAGE}),
    ),
    Read(
        Operation("runs-filter-deployment", "flow_runs/filter, by deployment", 20),
        _posted(
            "/flow_runs/filter",
            lambda world: {"flow_runs": {"deployment_id": {"any_": [str(world.deployments[7].id)]}}},
        ),
    ),
    Read(
        Operation("runs-filter-window", "flow_runs/filter, 200 by window, flow, deployment and pool", 20),
        _posted("/flow_runs/filter", _window_with_joins),
    ),
    Read(
        Operation("runs-paginate", "flow_runs/paginate, page 5 of 200", 20),
        _posted("/flow_runs/paginate", lambda world: {"limit": PAGE, "page": 5, "sort": "START_TIME_DESC"}),
    ),
    Read(
        Operation("runs-count", "flow_runs/count, by state and window", 10),
        _posted(
            "/flow_runs/count",
            lambda world: {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}, "start_time": _week(world)}},
        ),
    ),
    Read(
        Operation("runs-history", "flow_runs/history, 7 days in 84 bars", 25),
        _posted("/flow_runs/history", _history),
    ),
    Read(
        Operation("runs-lateness", "flow_runs/lateness, 7 days", 13),
        _posted("/flow_runs/lateness", lambda world: {"flow_runs": {"expected_start_time": _week(world)}}),
    ),
)
HAND_OUT = (
    Read(
        Operation("hand-out-deployments", "Hand-out to a runner, 10,000 due", 40),
        _posted("/deployments/get_scheduled_flow_runs", _due_of_deployments),
    ),
    Read(
        Operation("hand-out-pool", "Hand-out to a worker of the pool, 10,000 due", 60),
        _posted(f"/work_pools/{POOL}/get_scheduled_flow_runs", _due),
    ),
    Read(
        Operation("hand-out-queue", "Hand-out to a worker of one queue, 10,000 due", 80),
        _posted(f"/work_pools/{POOL}/get_scheduled_flow_runs", _due_of_a_queue),
    ),
)

# --- writes ----------------------------------------------------------------------------------------------------------

LIFE = Operation("life", "Life of a run: create, Pending, Running, Completed", 30)
CREATE_RUN = Operation("create-run", "create_flow_run from a deployment", 30)
CREATE = Operation("create-deployment", "Create a deployment with a schedule", 30)
UPSERT = Operation("upsert-deployment", "Upsert a deployment with a schedule", 40)
PAUSE = Operation("pause-deployment", "Pause a deployment with 1,000 scheduled runs", 10)
DELETE = Operation("delete-deployment", "Delete a deployment with 1,000 scheduled runs", 10)
SCHEDULE = {
    "interval": Operation("schedule-interval", "Schedule 1,000 runs: interval", 20),
    "cron": Operation("schedule-cron", "Schedule 1,000 runs: cron in a time zone", 20),
    "rrule": Operation("schedule-rrule", "Schedule 1,000 runs: RRULE, every 15 minutes since 2020", 60),
    "rrule-hourly": Operation("schedule-rrule-hourly", "Schedule 1,000 runs: RRULE, hourly", 20),
}
SCHEDULE_AGAIN = Operation("schedule-again", "Schedule the same 1,000 runs again", 50)
TIMETABLES: dict[str, dict[str, object]] = {
    "interval": {"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"},
    "cron": {"cron": "15 * * * *", "timezone": "America/New_York", "day_or": True},
    "rrule": {"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=MINUTELY;INTERVAL=15", "timezone": "Europe/Berlin"},
    "rrule-hourly": {"rrule": "FREQ=HOURLY;BYMINUTE=30", "timezone": "Europe/Berlin"},
}


def _state(path: str, type: str) -> Request:
    return Request.post(f"{path}/set_state", {"state": {"type": type, "name": type.capitalize()}, "force": False})


def _live(client: Client, creation: Request) -> None:
    """Take a run through its life; every step must be accepted."""
    run = client.object(creation)
    for type in ("PENDING", "RUNNING", "COMPLETED"):
        answer = client.object(_state(f"/api/flow_runs/{run['id']}", type))
        if answer.get("status") != "ACCEPT":
            raise BadAnswer(f"{type}: {answer}")


def _play_life(stage: Stage) -> None:
    body = {
        "flow_id": str(stage.world.flows[0].id), "parameters": {"customer": "one"}, "tags": ["measured"],
        "state": {"type": "SCHEDULED", "name": "Scheduled"},
    }  # fmt: skip
    creation = Request.post("/api/flow_runs/", body)
    _live(stage.client, creation)
    stage.measure(LIFE.key, [partial(_live, stage.client, creation)] * stage.effort.writes)


def _play_create_run(stage: Stage) -> None:
    path = f"/api/deployments/{stage.world.deployments[11].id}/create_flow_run"
    request = Request.post(path, {"parameters": {"day": "2026-01-02"}, "tags": ["measured"]})
    act = partial(stage.client.object, request)
    act()
    stage.measure(CREATE_RUN.key, [act] * (4 * stage.effort.writes))


def _deployment(stage: Stage, name: str, timetable: dict[str, object]) -> Request:
    body = {
        "name": name,
        "flow_id": str(stage.world.flows[1].id),
        "work_pool_name": POOL,
        "work_queue_name": stage.world.queues[1].name,
        "entrypoint": "flows.py:main",
        "path": ".",
        "tags": ["measured"],
        "parameters": {"customer": "one"},
        "parameter_openapi_schema": {"type": "object", "properties": {"customer": {"type": "string"}}},
        "enforce_parameter_schema": True,
        "schedules": [{"schedule": timetable, "active": True, "slug": "often"}],
    }
    return Request.post("/api/deployments/", body)


def _play_deployments(stage: Stage) -> None:
    names = [stage.name(number) for number in range(2 * stage.effort.writes)]
    acts = [partial(stage.client.object, _deployment(stage, name, TIMETABLES["interval"])) for name in names]
    stage.measure(CREATE.key, acts)
    stage.measure(UPSERT.key, acts)


def _schedule(stage: Stage, deployment_id: object) -> Callable[[], object]:
    start = stage.world.now + timedelta(days=1)
    body = {
        "start_time": start.isoformat(), "end_time": (start + timedelta(days=90)).isoformat(),
        "min_runs": SCHEDULED_RUNS, "max_runs": SCHEDULED_RUNS, "min_time": 60.0,
    }  # fmt: skip
    return partial(stage.client.fetch, Request.post(f"/api/deployments/{deployment_id}/schedule", body))


def _planned(stage: Stage, deployment_ids: list[object]) -> int:
    count = Request.post("/api/flow_runs/count", {"flow_runs": {"deployment_id": {"any_": deployment_ids}}})
    return _size(stage.client.json(count)) // len(deployment_ids)


def _scheduled_deployments(stage: Stage, kind: str, number: int) -> list[object]:
    """Ids of new deployments; the schedule of `kind` has run for none of them yet."""
    creations = [_deployment(stage, f"{kind}-{stage.name(i)}", TIMETABLES[kind]) for i in range(number)]
    return [stage.client.object(creation)["id"] for creation in creations]


def _play_schedule(kind: str, stage: Stage) -> None:
    ids = _scheduled_deployments(stage, kind, stage.effort.bulk)
    stage.measure(SCHEDULE[kind].key, [_schedule(stage, id) for id in ids])
    stage.sizes[SCHEDULE[kind].key] = _planned(stage, ids)
    _delete(stage, ids)


def _delete(stage: Stage, ids: list[object]) -> None:
    for id in ids:
        stage.client.fetch(Request("DELETE", f"/api/deployments/{id}"))


def _play_interval(stage: Stage) -> None:
    ids = _scheduled_deployments(stage, "interval", stage.effort.bulk)
    acts = [_schedule(stage, id) for id in ids]
    stage.measure(SCHEDULE["interval"].key, acts)
    stage.sizes[SCHEDULE["interval"].key] = _planned(stage, ids)
    stage.measure(SCHEDULE_AGAIN.key, acts)
    stage.sizes[SCHEDULE_AGAIN.key] = _planned(stage, ids)
    pauses = [Request("POST", f"/api/deployments/{id}/pause_deployment", b"") for id in ids]
    stage.measure(PAUSE.key, [partial(stage.client.fetch, pause) for pause in pauses])
    stage.sizes[PAUSE.key] = _planned(stage, ids)
    for act in acts:
        act()
    deletions = [Request("DELETE", f"/api/deployments/{id}") for id in ids]
    stage.measure(DELETE.key, [partial(stage.client.fetch, deletion) for deletion in deletions])
    stage.sizes[DELETE.key] = _planned(stage, ids)


# Reads first: what the writes leave behind would otherwise be in them.
SCENARIOS: tuple[Read | Scenario, ...] = (
    *DEPLOYMENT_READS,
    *FLOW_RUN_READS,
    *HAND_OUT,
    Scenario((LIFE,), _play_life),
    Scenario((CREATE_RUN,), _play_create_run),
    Scenario((CREATE, UPSERT), _play_deployments),
    Scenario((SCHEDULE["interval"], SCHEDULE_AGAIN, PAUSE, DELETE), _play_interval),
    *(Scenario((SCHEDULE[kind],), partial(_play_schedule, kind)) for kind in ("cron", "rrule", "rrule-hourly")),
)
OPERATIONS: tuple[Operation, ...] = tuple(operation for scenario in SCENARIOS for operation in scenario.operations)

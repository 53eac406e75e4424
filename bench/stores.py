"""The same rows in both stores: pools, flows, deployments with schedules, runs with states.

`World` draws every row from a seeded generator, so both servers know the same ids and are sent the same bytes. The
reference's tables are filled in plain SQL, ours through our models in a process of its own (`python -m bench.stores`).
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from bench.servers import OURS, REFERENCE, Store

POOL = "bench-pool"
TEAMS = 8
FINAL_STATES = (("COMPLETED", "Completed", 75), ("FAILED", "Failed", 12), ("CRASHED", "Crashed", 5),
                ("CANCELLED", "Cancelled", 8))  # fmt: skip
ZONES = ("America/New_York", "Europe/Berlin", "Asia/Tokyo", "UTC")
HISTORY = timedelta(days=7, hours=6)
BASE_JOB_TEMPLATE = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "working_dir": "{{ working_dir }}"},
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "default": "run"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
            "working_dir": {"type": "string"},
        },
    },
}
PARAMETER_SCHEMA = {
    "title": "Parameters",
    "type": "object",
    "properties": {
        "customer": {"type": "string", "title": "customer", "position": 0},
        "day": {"type": "string", "title": "day", "position": 1},
        "attempts": {"type": "integer", "title": "attempts", "default": 3, "position": 2},
    },
    "required": ["customer"],
}
PULL_STEPS = [{"prefect.deployments.steps.set_working_directory": {"directory": "/srv/flows"}}]


@dataclass(frozen=True)
class Size:
    deployments: int
    runs: int
    due: int
    flows: int = 50
    queues: int = 10


@dataclass(frozen=True, slots=True)
class QueueRow:
    id: UUID
    name: str
    priority: int


@dataclass(frozen=True, slots=True)
class FlowRow:
    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    id: UUID
    name: str
    flow: FlowRow
    queue: QueueRow
    tags: list[str]
    labels: dict[str, str]
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    id: UUID
    deployment: DeploymentRow
    slug: str
    schedule: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunRow:
    id: UUID
    state_id: UUID
    name: str
    deployment: DeploymentRow
    schedule_id: UUID
    state_type: str
    state_name: str
    expected: datetime
    start: datetime | None
    end: datetime | None
    state_at: datetime

    @property
    def due(self) -> bool:
        return self.state_type == "SCHEDULED"

    @property
    def run_time(self) -> timedelta:
        return self.end - self.start if self.end and self.start else timedelta(0)

    @property
    def tags(self) -> list[str]:
        return ["auto-scheduled", *self.deployment.tags]

    @property
    def idempotency_key(self) -> str:
        return f"scheduled {self.deployment.id} {self.schedule_id} {self.expected.isoformat(' ')}"

    @property
    def created_by(self) -> dict[str, str]:
        return {"id": str(self.schedule_id), "type": "SCHEDULE", "display_value": "IntervalSchedule"}

    @property
    def state_details(self) -> dict[str, Any]:
        return {"scheduled_time": self.expected.isoformat()} if self.due else {}

    @property
    def message(self) -> str | None:
        return "Flow run scheduled" if self.due else None


class World:
    """All rows of a store of `size` at the moment `now`; equal arguments give equal rows."""

    def __init__(self, size: Size, now: datetime) -> None:
        self.size = size
        self.now = now
        self.created = now - HISTORY - timedelta(days=1)
        draw = random.Random(20_260_101)
        self._new_id: Callable[[], UUID] = lambda: UUID(int=draw.getrandbits(128), version=4)
        self.pool_id = self._new_id()
        self.queues = [QueueRow(self._new_id(), "default" if i == 0 else f"queue-{i}", i + 1) for i in range(size.queues)]
        self.flows = [FlowRow(self._new_id(), f"flow-{i:03d}") for i in range(size.flows)]
        self.deployments = [self._deployment(i) for i in range(size.deployments)]

    def _deployment(self, number: int) -> DeploymentRow:
        flow = self.flows[number % len(self.flows)]
        id = self._new_id()
        return DeploymentRow(
            id,
            f"deployment-{number:05d}",
            flow,
            self.queues[number % len(self.queues)],
            ["bench", f"team-{number % TEAMS}"],
            {"prefect.flow.id": str(flow.id), "team": f"team-{number % TEAMS}"},
            {"customer": f"customer-{number}", "day": "today", "attempts": 3},
        )

    @cached_property
    def schedules(self) -> list[ScheduleRow]:
        return [row for number in range(len(self.deployments)) for row in self._schedules(number)]

    def _schedules(self, number: int) -> Iterator[ScheduleRow]:
        # With the default horizon (an hour ahead, three runs at least) 9.1 runs a deployment on average.
        interval = {"interval": 600.0 if number % 10 == 0 else 720.0, "anchor_date": "2026-01-01T00:00:00+00:00"}
        cron = {"cron": f"{number % 60} {number % 24} * * *", "timezone": ZONES[number % len(ZONES)], "day_or": True}
        for slug, schedule in (("often", interval | {"timezone": "UTC"}), ("daily", cron)):
            yield ScheduleRow(self._new_id(), self.deployments[number], slug, schedule)

    @cached_property
    def runs(self) -> list[RunRow]:
        draw = random.Random(20_260_102)
        frequent = {row.deployment.id: row.id for row in self.schedules if row.slug == "often"}
        names, weights = FINAL_STATES, [weight for _, _, weight in FINAL_STATES]
        rows = []
        for number in range(self.size.runs):
            deployment = self.deployments[number % len(self.deployments)]
            schedule_id = frequent[deployment.id]
            id, state_id, name = self._new_id(), self._new_id(), f"run-{number:06d}"
            if number < self.size.due:
                # Each deployment's due runs lie a minute apart, and never two on one instant of its schedule.
                expected = self.now - timedelta(seconds=60 * (1 + number // len(self.deployments)) + number % 50)
                row = RunRow(id, state_id, name, deployment, schedule_id, "SCHEDULED", "Scheduled", expected, None,
                             None, expected - timedelta(hours=1))  # fmt: skip
            else:
                type, state_name, _ = draw.choices(names, weights)[0]
                expected = self.now - timedelta(hours=4) - timedelta(seconds=draw.random() * HISTORY.total_seconds())
                start = expected + timedelta(seconds=draw.random() * 30)
                end = start + timedelta(seconds=1 + draw.random() * 300)
                row = RunRow(id, state_id, name, deployment, schedule_id, type, state_name, expected, start, end, end)
            rows.append(row)
        return rows


# --- the reference: plain SQL ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    name: str
    columns: tuple[str, ...]
    rows: Iterable[tuple[object, ...]]


def reference_tables(world: World) -> Iterator[Table]:
    stamps = (world.created, world.created)
    yield Table(
        "work_pool",
        ("id", "created", "updated", "name", "type", "base_job_template", "is_paused", "default_queue_id", "status",
         "storage_configuration"),
        [(world.pool_id, *stamps, POOL, "process", BASE_JOB_TEMPLATE, False, world.queues[0].id, "READY", {})],
    )  # fmt: skip
    yield Table(
        "work_queue",
        ("id", "created", "updated", "name", "description", "is_paused", "priority", "work_pool_id", "status"),
        ((row.id, *stamps, row.name, "", False, row.priority, world.pool_id, "READY") for row in world.queues),
    )
    yield Table(
        "flow",
        ("id", "created", "updated", "name", "tags", "labels"),
        ((row.id, *stamps, row.name, ["bench"], {}) for row in world.flows),
    )
    yield Table(
        "deployment",
        ("id", "created", "updated", "name", "tags", "labels", "parameters", "flow_id", "parameter_openapi_schema",
         "infra_overrides", "path", "entrypoint", "work_queue_name", "work_queue_id", "pull_steps",
         "enforce_parameter_schema", "paused", "status"),
        ((row.id, *stamps, row.name, row.tags, row.labels, row.parameters, row.flow.id, PARAMETER_SCHEMA,
          {"env": {"TEAM": row.tags[1]}}, ".", "flows.py:main", row.queue.name, row.queue.id, PULL_STEPS,
          True, False, "READY") for row in world.deployments),
    )  # fmt: skip
    yield Table(
        "deployment_schedule",
        ("id", "created", "updated", "schedule", "active", "deployment_id", "parameters", "slug"),
        ((row.id, *stamps, row.schedule, True, row.deployment.id, {}, row.slug) for row in world.schedules),
    )
    yield Table(
        "flow_run",
        ("id", "created", "updated", "name", "state_type", "state_name", "state_id", "state_timestamp", "run_count",
         "expected_start_time", "next_scheduled_start_time", "start_time", "end_time", "total_run_time", "parameters",
         "idempotency_key", "context", "empirical_policy", "tags", "labels", "auto_scheduled", "flow_id",
         "deployment_id", "work_queue_name", "work_queue_id", "job_variables", "created_by"),
        ((row.id, row.state_at, row.state_at, row.name, row.state_type, row.state_name, row.state_id, row.state_at,
          0 if row.due else 1, row.expected, row.expected if row.due else None, row.start, row.end, row.run_time,
          row.deployment.parameters, row.idempotency_key, {}, {}, row.tags, row.deployment.labels, True,
          row.deployment.flow.id, row.deployment.id, row.deployment.queue.name, row.deployment.queue.id, {},
          row.created_by) for row in world.runs),
    )  # fmt: skip
    yield Table(
        "flow_run_state",
        ("id", "created", "updated", "type", "timestamp", "name", "message", "state_details", "flow_run_id"),
        ((row.state_id, row.state_at, row.state_at, row.state_type, row.state_at, row.state_name, row.message,
          row.state_details, row.id) for row in world.runs),
    )  # fmt: skip


def _for_sqlite(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S.%f}"
        case timedelta():
            # The reference keeps a duration as the instant that lies so long after 1970.
            return f"{datetime(1970, 1, 1) + value:%Y-%m-%d %H:%M:%S.%f}"
        case dict() | list():
            return json.dumps(value)
    return value


def _for_postgresql(value: object) -> object:
    return Jsonb(value) if isinstance(value, dict | list) else value


def _fill_sqlite(store: Store, tables: Iterable[Table]) -> None:
    # The reference's own file name is given by its URL. Foreign keys are off here: runs and states name each other.
    with closing(sqlite3.connect(store.file)) as connection, connection:
        for table in tables:
            places = ", ".join("?" * len(table.columns))
            connection.executemany(
                f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})",
                (tuple(map(_for_sqlite, row)) for row in table.rows),
            )


def _fill_postgresql(store: Store, tables: Iterable[Table]) -> None:
    with psycopg.connect(store.conninfo) as connection, connection.cursor() as cursor:
        # Foreign keys off, for runs and states name each other.
        cursor.execute("SET session_replication_role = replica")
        for table in tables:
            statement = f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN"
            with cursor.copy(statement.encode()) as copy:
                for row in table.rows:
                    copy.write_row(tuple(map(_for_postgresql, row)))


def fill_reference(store: Store, world: World) -> None:
    """Fill the reference's migrated tables."""
    fill = _fill_postgresql if store.socket_dir else _fill_sqlite
    fill(store, reference_tables(world))
    _analyze(store)


def _analyze(store: Store) -> None:
    # What autovacuum would do some minutes later. SQLite has nothing of the kind.
    if store.socket_dir:
        with psycopg.connect(store.conninfo, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")


# --- ours: through the models ----------------------------------------------------------------------------------------


def fill_ours(store: Store, world: World) -> None:
    """Fill our migrated tables, in a process of its own: Django's settings are read once a process."""
    order = json.dumps({"size": asdict(world.size), "now": world.now.isoformat()})
    OURS.run(store, [sys.executable, "-m", "bench.stores", order])
    _analyze(store)


def fill(kind_side: str, store: Store, world: World) -> None:
    """Make the tables of the server `kind_side` in `store` and fill them."""
    kind, filler = (OURS, fill_ours) if kind_side == "ours" else (REFERENCE, fill_reference)
    kind.migrate(store)
    filler(store, world)


def _insert_through_models(world: World) -> None:
    import django

    django.setup()

    from django.db import transaction

    from deployments.models import Deployment, DeploymentSchedule
    from flowruns.models import Flow, FlowRun, FlowRunState
    from workqueues.models import WorkPool, WorkQueue

    stamps = {"created": world.created, "updated": world.created}

    def insert(model: Any, rows: Iterable[Any]) -> None:
        iterator = iter(rows)
        while batch := list(islice(iterator, 1000)):
            model.objects.bulk_create(batch)

    with transaction.atomic():
        pool = WorkPool(id=world.pool_id, name=POOL, type="process", base_job_template=BASE_JOB_TEMPLATE,
                        status="READY", **stamps)  # fmt: skip
        insert(WorkPool, [pool])
        insert(WorkQueue, (
            WorkQueue(id=row.id, name=row.name, priority=row.priority, work_pool_id=world.pool_id, status="READY",
                      **stamps) for row in world.queues
        ))  # fmt: skip
        WorkPool.objects.filter(pk=world.pool_id).update(default_queue_id=world.queues[0].id)
        insert(Flow, (Flow(id=row.id, name=row.name, tags=["bench"], **stamps) for row in world.flows))
        insert(Deployment, (
            Deployment(id=row.id, name=row.name, tags=row.tags, labels=row.labels, parameters=row.parameters,
                       flow_id=row.flow.id, parameter_openapi_schema=PARAMETER_SCHEMA,
                       job_variables={"env": {"TEAM": row.tags[1]}}, path=".", entrypoint="flows.py:main",
                       work_queue_name=row.queue.name, work_queue_id=row.queue.id, pull_steps=PULL_STEPS,
                       status="READY", **stamps)
            for row in world.deployments
        ))  # fmt: skip
        insert(DeploymentSchedule, (
            DeploymentSchedule(id=row.id, identity=row.id, schedule=row.schedule, deployment_id=row.deployment.id,
                               slug=row.slug, **stamps)
            for row in world.schedules
        ))  # fmt: skip
        insert(FlowRun, (
            FlowRun(id=row.id, created=row.state_at, updated=row.state_at, name=row.name, state_type=row.state_type,
                    state_name=row.state_name, state_id=row.state_id, state_timestamp=row.state_at,
                    run_count=0 if row.due else 1, expected_start_time=row.expected,
                    next_scheduled_start_time=row.expected if row.due else None, start_time=row.start,
                    end_time=row.end, total_run_seconds=row.run_time.total_seconds(),
                    start_delay_seconds=(row.start - row.expected).total_seconds() if row.start else None,
                    parameters=row.deployment.parameters, idempotency_key=row.idempotency_key, tags=row.tags,
                    labels=row.deployment.labels, auto_scheduled=True, flow_id=row.deployment.flow.id,
                    deployment_id=row.deployment.id, work_queue_name=row.deployment.queue.name,
                    work_queue_id=row.deployment.queue.id, created_by=row.created_by,
                    schedule_identity=row.schedule_id)
            for row in world.runs
        ))  # fmt: skip
        insert(FlowRunState, (
            FlowRunState(id=row.state_id, run_id=row.id, type=row.state_type, name=row.state_name,
                         timestamp=row.state_at, message=row.message, details=row.state_details)
            for row in world.runs
        ))  # fmt: skip


def main() -> None:
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    order = json.loads(sys.argv[1])
    _insert_through_models(World(Size(**order["size"]), datetime.fromisoformat(order["now"])))


def count_of_our_runs(store: Store) -> int:
    query = "SELECT count(*) FROM flowruns_flowrun"
    if store.socket_dir:
        with psycopg.connect(store.conninfo) as connection:
            found = connection.execute(query).fetchone()
    else:
        with closing(sqlite3.connect(store.file)) as connection:
            found = connection.execute(query).fetchone()
    return int(found[0]) if found else 0


def moment() -> datetime:
    """Now, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


if __name__ == "__main__":
    main()

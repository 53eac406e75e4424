"""Task runs from the events that clients send of them. Contract: runs_states_orchestration.md, section 6.8.

The client orchestrates its task runs by itself; here it is only written down what it tells, in any order and once. A fixed
number of statements for a batch of events, whatever its size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from django.db import connection
from django.utils import timezone
from pydantic import ConfigDict, Field, ValidationError

from flowruns.models import FlowRun, TaskRun, TaskRunState
from flowruns.orchestration.proposal import full_details
from flowruns.schemas import Key, StateCreate, wire_text
from flowruns.states import default_name
from orchestrator.core import json_body
from orchestrator.core.databases import is_postgresql, rows_of_json, written
from orchestrator.core.identifiers import random_name
from orchestrator.core.wire import Object, UtcMoment, WireModel
from orchestrator.events.schemas import EventBody

log = logging.getLogger(__name__)

NAME = "prefect.task-run"
ORCHESTRATION = "prefect.orchestration"
KIND = "prefect.task-run."
FLOW_RUN_KIND = "prefect.flow-run."

# Columns that an event may carry, with the type PostgreSQL reads them as.
TOLD = {
    "name": "text",
    "task_key": "text",
    "dynamic_key": "text",
    "cache_key": "text",
    "cache_expiration": "timestamptz",
    "task_version": "text",
    "empirical_policy": "jsonb",
    "tags": "jsonb",
    "labels": "jsonb",
    "task_inputs": "jsonb",
    "run_count": "int",
    "flow_run_run_count": "int",
    "expected_start_time": "timestamptz",
    "next_scheduled_start_time": "timestamptz",
    "start_time": "timestamptz",
    "end_time": "timestamptz",
    "total_run_seconds": "float8",
}
# Columns that follow from the event's state.
DERIVED = {
    "state_id": "uuid",
    "state_type": "text",
    "state_name": "text",
    "state_timestamp": "timestamptz",
    "start_delay_seconds": "float8",
    "updated": "timestamptz",
}
NEVER_NULL = {
    "task_key": "",
    "dynamic_key": "",
    "empirical_policy": {},
    "tags": [],
    "labels": {},
    "task_inputs": {},
    "run_count": 0,
    "flow_run_run_count": 0,
    "total_run_seconds": 0.0,
}


class ToldTaskRun(WireModel):
    """The task run in an event's payload; only the keys that it carries are written."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    task_key: Key = ""
    dynamic_key: Key = ""
    cache_key: Key | None = None
    cache_expiration: UtcMoment | None = None
    task_version: str | None = None
    empirical_policy: Object | None = None
    tags: list[str] | None = None
    labels: Object | None = None
    task_inputs: dict[str, list[Object]] | None = None
    run_count: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    flow_run_run_count: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    expected_start_time: UtcMoment | None = None
    next_scheduled_start_time: UtcMoment | None = None
    start_time: UtcMoment | None = None
    end_time: UtcMoment | None = None
    total_run_time: timedelta | None = None

    def columns(self) -> dict[str, Any]:
        values = self.given()
        if "total_run_time" in values:
            ran = values.pop("total_run_time")
            values["total_run_seconds"] = ran.total_seconds() if ran else 0.0
        return {name: NEVER_NULL.get(name) if value is None else value for name, value in values.items()}


class ToldState(StateCreate):
    model_config = ConfigDict(extra="ignore")


@dataclass
class Told:
    """What one event tells of a task run."""

    event_id: UUID
    occurred: datetime
    run_id: UUID
    flow_run_id: UUID | None
    state: ToldState
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[UUID | None, str, str]:
        """What makes two task runs the same one, whatever their ids."""
        return self.flow_run_id, self.values.get("task_key", ""), self.values.get("dynamic_key", "")

    def derived(self) -> dict[str, Any]:
        expected, started = self.values.get("expected_start_time"), self.values.get("start_time")
        delay = max(0.0, (started - expected).total_seconds()) if started and expected else None
        return {
            "state_id": self.event_id,
            "state_type": self.state.type.value,
            "state_name": self.state_name,
            "state_timestamp": self.occurred,
            "start_delay_seconds": delay,
            "updated": timezone.now(),
        }

    @property
    def state_name(self) -> str:
        return self.state.name or default_name(self.state.type)


def record_task_runs(events: Sequence[EventBody]) -> None:
    """Write down what these events tell of task runs. Joins the caller's transaction."""
    told = [found for event in events if is_told(event) and (found := read(event)) is not None]
    if told:
        write(told)


def is_told(event: EventBody) -> bool:
    return event.event.startswith(NAME) and event.resource.get(ORCHESTRATION) == "client"


def read(event: EventBody) -> Told | None:
    """The event taken apart; None, with a line in the log, for one that does not tell what it should."""
    try:
        state = ToldState.model_validate(event.payload.get("validated_state"))
        run = ToldTaskRun.model_validate(event.payload.get("task_run") or {})
        run_id = UUID(event.resource["prefect.resource.id"].removeprefix(KIND))
        above = (one for one in event.related if one.get("prefect.resource.role") == "flow-run")
        flow_run = next((one["prefect.resource.id"].removeprefix(FLOW_RUN_KIND) for one in above), None)
        flow_run_id = UUID(flow_run) if flow_run else None
    except (ValidationError, ValueError) as error:
        log.warning("Event %s of a task run cannot be read: %s", event.id, str(error)[:300])
        return None
    return Told(event.id, event.occurred, run_id, flow_run_id, state, run.columns())


def write(told: list[Told]) -> None:
    told = of_known_flow_runs(told)
    stored = settle_ids(told)
    newest: dict[UUID, Told] = {}
    for item in told:
        if item.run_id not in newest or newest[item.run_id].occurred < item.occurred:
            newest[item.run_id] = item
    insert_runs([item for key, item in newest.items() if key not in stored])
    update_runs([item for key, item in newest.items() if key in stored and is_newer(stored[key], item)])
    insert_states(told)


def is_newer(known: datetime | None, item: Told) -> bool:
    return known is None or known < item.occurred


def of_known_flow_runs(told: list[Told]) -> list[Told]:
    """Without what belongs to flow runs that were deleted meanwhile."""
    asked = {item.flow_run_id for item in told if item.flow_run_id}
    known = set(FlowRun.objects.filter(pk__in=asked).values_list("pk", flat=True)) | {None}
    gone = [item for item in told if item.flow_run_id not in known]
    for item in gone:
        log.info("Task run %s belongs to no flow run that is known", item.run_id)
    return [item for item in told if item.flow_run_id in known] if gone else told


def settle_ids(told: list[Told]) -> dict[UUID, datetime | None]:
    """Give each item the id of the run it is about: that of its keys' row, else its own. Stored runs with their times.

    The stored runs are locked, in the order of their keys.
    """
    places = {"number": "int", "run_id": "uuid", "flow_run_id": "uuid", "task_key": "text", "dynamic_key": "text"}
    rows = [[i, item.run_id, *item.key] for i, item in enumerate(told)]
    table = TaskRun._meta.db_table
    locked = "ORDER BY run.id FOR UPDATE OF run" if is_postgresql() else ""
    given = rows_of_json(places, "given")
    columns = "given.number, run.id, run.state_timestamp"
    by_key = "run.flow_run_id = given.flow_run_id AND run.task_key = given.task_key AND run.dynamic_key = given.dynamic_key"
    found: dict[int, tuple[UUID, datetime | None]] = {}
    with connection.cursor() as cursor:
        for tie in ("run.id = given.run_id", by_key):  # what the second finds outweighs the first
            cursor.execute(f"SELECT {columns} FROM {given} JOIN {table} run ON {tie} {locked}", [text_of(rows)])  # noqa: S608
            found |= {number: (as_id(key), as_time(at)) for number, key, at in cursor.fetchall()}
    stored: dict[UUID, datetime | None] = {}
    first: dict[tuple[UUID | None, str, str], UUID] = {}
    for i, item in enumerate(told):
        if i in found:
            item.run_id, at = found[i]
            stored[item.run_id] = at
        elif item.flow_run_id:
            item.run_id = first.setdefault(item.key, item.run_id)
    return stored


def as_id(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def as_time(value: Any) -> datetime | None:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def text_of(rows: Iterable[Sequence[Any]]) -> str:
    return json_body.dump([[stored(cell) for cell in row] for row in rows]).decode()


def stored(cell: Any) -> Any:
    return written(cell) if isinstance(cell, datetime) else cell


def insert_runs(told: list[Told]) -> None:
    """One statement. A run that another process inserts at this instant is left to it."""
    if not told:
        return
    types = {"id": "uuid", "flow_run_id": "uuid", "created": "timestamptz"} | TOLD | DERIVED
    now = timezone.now()
    rows = []
    for item in told:
        values = NEVER_NULL | {"name": random_name()} | item.values | item.derived()
        values |= {"id": item.run_id, "flow_run_id": item.flow_run_id, "created": now}
        values["name"] = values["name"] or random_name()
        rows.append([values.get(name) for name in types])
    names = ", ".join(types)
    picked = ", ".join(f"given.{name}" for name in types)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TaskRun._meta.db_table} ({names}) SELECT {picked} FROM {rows_of_json(types, 'given')}",  # noqa: S608
            [text_of(rows)],
        )


def update_runs(told: list[Told]) -> None:
    """One statement for those that tell of the same columns; a client tells of the same ones each time."""
    groups: dict[tuple[str, ...], list[Told]] = {}
    for item in told:
        if not item.values.get("name"):
            item.values.pop("name", None)
        groups.setdefault(tuple(sorted(item.values)), []).append(item)
    for names, items in groups.items():
        types = {"id": "uuid"} | {name: TOLD[name] for name in names} | DERIVED
        if "start_time" not in names:
            del types["start_delay_seconds"]
        rows = []
        for item in items:
            values = item.values | item.derived() | {"id": item.run_id}
            rows.append([values[name] for name in types])
        changes = ", ".join(f"{name} = given.{name}" for name in types if name != "id")
        table = TaskRun._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {table} SET {changes} FROM {rows_of_json(types, 'given')} WHERE {table}.id = given.id",  # noqa: S608
                [text_of(rows)],
            )


def insert_states(told: list[Told]) -> None:
    """The history: every state once."""
    types = {
        "id": "uuid",
        "run_id": "uuid",
        "type": "text",
        "name": "text",
        "timestamp": "timestamptz",
        "message": "text",
        "details": "jsonb",
        "data": "jsonb",
    }
    rows = []
    for item in told:
        details = {key: wire_text(value) for key, value in item.state.state_details.given().items()}
        details |= {"task_run_id": str(item.run_id), "flow_run_id": item.flow_run_id and str(item.flow_run_id)}
        state = item.state
        data = None if isinstance(state.data, dict) and state.data.get("type") == "unpersisted" else state.data
        rows.append(
            [
                item.event_id,
                item.run_id,
                state.type.value,
                item.state_name,
                item.occurred,
                state.message,
                full_details(details),
                data,
            ]
        )
    names = ", ".join(types)
    picked = ", ".join(f"given.{name}" for name in types)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TaskRunState._meta.db_table} ({names}) SELECT {picked} FROM {rows_of_json(types, 'given')} "  # noqa: S608
            "WHERE 1 = 1 ON CONFLICT DO NOTHING",
            [text_of(rows)],
        )

"""Task runs that clients tell of in events: in any order, in any batches, each once."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flowruns.models import FlowRun, TaskRun, TaskRunState
from orchestrator.events import recording
from orchestrator.events.intake import parsed
from orchestrator.events.models import Event
from tests.api import get, post
from tests.factories import flow_run

pytestmark = pytest.mark.django_db
START = timezone.now().replace(microsecond=0) - timedelta(minutes=5)
LIFE = [("PENDING", "Pending", 0), ("RUNNING", "Running", 1), ("COMPLETED", "Completed", 4)]


def told(run_id: UUID, flow: FlowRun | None, type_: str, name: str, seconds: float, **run: Any) -> dict[str, Any]:
    """What the client sends when a task run enters a state, `seconds` after START."""
    at = START + timedelta(seconds=seconds)
    started = START + timedelta(seconds=1)
    of_run = {
        "name": "shout-0",
        "task_key": "shout",
        "dynamic_key": "0",
        "tags": ["loud"],
        "labels": {},
        "empirical_policy": {"retries": 2, "retry_delay": [1.5], "retry_jitter_factor": None},
        "task_inputs": {"text": [{"input_type": "parameter", "name": "text"}]},
        "expected_start_time": START.isoformat(),
        "start_time": started.isoformat() if type_ != "PENDING" else None,
        "end_time": at.isoformat() if type_ == "COMPLETED" else None,
        "total_run_time": (at - started).total_seconds() if type_ == "COMPLETED" else 0.0,
        "run_count": int(type_ != "PENDING"),
        "flow_run_run_count": 1,
        "estimated_run_time": 12.0,
    }
    related = [{"prefect.resource.id": f"prefect.flow-run.{flow.pk}", "prefect.resource.role": "flow-run"}] if flow else []
    return {
        "id": str(uuid4()),
        "occurred": at.isoformat(),
        "event": f"prefect.task-run.{name}",
        "resource": {"prefect.resource.id": f"prefect.task-run.{run_id}", "prefect.orchestration": "client"},
        "related": related,
        "payload": {
            "validated_state": {"type": type_, "name": name, "message": None, "state_details": {}, "data": None},
            "task_run": of_run | run,
        },
    }


def life(run_id: UUID, flow: FlowRun | None = None, **run: Any) -> list[dict[str, Any]]:
    return [told(run_id, flow, *moment, **run) for moment in LIFE]


def send(*events: dict[str, Any]) -> None:
    assert post("/events", list(events))[0] == 204


def states(run_id: UUID) -> list[str]:
    return [state["name"] for state in get(f"/task_run_states/?task_run_id={run_id}")[1]]


def assert_complete(run_id: UUID, flow: FlowRun) -> None:
    run = get(f"/task_runs/{run_id}")[1]
    assert (run["name"], run["flow_run_id"], run["task_key"], run["tags"]) == ("shout-0", str(flow.pk), "shout", ["loud"])
    assert (run["state_type"], run["state"]["name"], run["run_count"]) == ("COMPLETED", "Completed", 1)
    assert (run["total_run_time"], run["estimated_run_time"], run["estimated_start_time_delta"]) == (3.0, 3.0, 1.0)
    assert datetime.fromisoformat(run["end_time"]) == START + timedelta(seconds=4)
    assert run["state"]["state_details"]["flow_run_id"] == str(flow.pk)
    assert run["state"]["state_details"]["task_run_id"] == str(run_id)
    assert run["empirical_policy"]["retries"] == 2
    assert states(run_id) == ["Pending", "Running", "Completed"]


def test_a_task_run_is_what_its_events_say() -> None:
    flow, run_id = flow_run("RUNNING"), uuid4()
    send(*life(run_id, flow))
    assert_complete(run_id, flow)


@pytest.mark.parametrize("seed", range(12))
def test_order_batches_and_repetitions_do_not_matter(seed: int) -> None:
    random = Random(seed)
    flow = flow_run("RUNNING")
    keys = [uuid4() for _ in range(4)]
    events = [event for i, key in enumerate(keys) for event in life(key, flow, dynamic_key=str(i))]
    events += random.sample(events, 5)
    random.shuffle(events)
    while events:
        size = random.randint(1, 6)
        send(*events[:size])
        del events[:size]
    for key in keys:
        assert_complete(key, flow)


def test_a_late_event_adds_to_the_history_and_changes_nothing_else() -> None:
    flow, run_id = flow_run("RUNNING"), uuid4()
    pending, running, completed = life(run_id, flow)
    send(pending, completed)
    before = get(f"/task_runs/{run_id}")[1]
    send(running)
    after = get(f"/task_runs/{run_id}")[1]
    assert after == before
    assert states(run_id) == ["Pending", "Running", "Completed"]


def test_what_an_event_leaves_out_stays() -> None:
    flow, run_id = flow_run("RUNNING"), uuid4()
    send(life(run_id, flow)[0])
    later = told(run_id, flow, "RUNNING", "Running", 1)
    later["payload"]["task_run"] = {"run_count": 1}
    send(later)
    run = get(f"/task_runs/{run_id}")[1]
    assert (run["name"], run["run_count"], run["state_name"], run["tags"]) == ("shout-0", 1, "Running", ["loud"])


def test_a_row_of_the_same_keys_is_the_same_task_run() -> None:
    flow = flow_run("RUNNING")
    made = post("/task_runs/", {"flow_run_id": str(flow.pk), "task_key": "shout", "dynamic_key": "0"})[1]["id"]
    TaskRun.objects.update(state_timestamp=START - timedelta(seconds=1))
    send(*life(uuid4(), flow))
    assert TaskRun.objects.count() == 1
    assert get(f"/task_runs/{made}")[1]["state_type"] == "COMPLETED"
    assert "Completed" in states(UUID(made))


def test_two_ids_of_the_same_keys_in_one_batch_are_one_task_run() -> None:
    flow = flow_run("RUNNING")
    send(life(uuid4(), flow)[0], life(uuid4(), flow)[1])
    assert TaskRun.objects.get().state_name == "Running"


def test_a_task_run_outside_of_flows_is_recorded() -> None:
    run_id = uuid4()
    send(*life(run_id))
    assert TaskRun.objects.get(pk=run_id).flow_run_id is None
    assert states(run_id) == ["Pending", "Running", "Completed"]


def test_what_belongs_to_a_deleted_flow_run_is_kept_as_an_event_alone() -> None:
    gone = flow_run("RUNNING")
    events = life(uuid4(), gone)
    FlowRun.objects.all().delete()
    send(*events)
    assert (Event.objects.count(), TaskRun.objects.count()) == (3, 0)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"validated_state": None},
        {"validated_state": {"type": "ASLEEP"}},
        {"validated_state": {"type": "RUNNING"}, "task_run": {"run_count": "many"}},
        {"validated_state": {"type": "RUNNING"}, "task_run": {"tags": 5}},
        {"validated_state": {"type": "RUNNING"}, "task_run": {"run_count": 2**40}},
    ],
)
def test_one_that_cannot_be_read_does_not_stop_the_others(payload: dict[str, Any]) -> None:
    flow, run_id = flow_run("RUNNING"), uuid4()
    broken = told(uuid4(), flow, "RUNNING", "Running", 1, dynamic_key="9") | {"payload": payload}
    send(broken, *life(run_id, flow))
    assert_complete(run_id, flow)
    assert TaskRun.objects.count() == 1
    assert Event.objects.count() == 4


def test_one_that_the_database_refuses_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, run_id = flow_run("RUNNING"), uuid4()
    events = [parsed(json.dumps(item)) for item in life(run_id, flow)]
    refused = parsed(json.dumps(told(uuid4(), flow, "RUNNING", "Running", 1, dynamic_key="9")))
    whole = recording.store_together

    def refuse(batch: Any) -> None:
        if refused in batch:
            raise ValueError("on purpose")
        whole(batch)

    monkeypatch.setattr(recording, "store_together", refuse)
    recording.store([event for event in [events[0], refused, *events[1:]] if event])
    assert_complete(run_id, flow)


def test_a_batch_costs_the_same_number_of_statements_whatever_its_size() -> None:
    flow = flow_run("RUNNING")
    counts = []
    for number in (2, 40):
        events = [event for i in range(number) for event in life(uuid4(), flow, dynamic_key=f"{number} {i}")]
        with CaptureQueriesContext(connection) as queries:
            send(*events)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 9


def test_events_of_other_task_runs_are_only_kept() -> None:
    by_server = told(uuid4(), None, "RUNNING", "Running", 1)
    del by_server["resource"]["prefect.orchestration"]
    send(by_server)
    assert not TaskRun.objects.exists()
    assert not TaskRunState.objects.exists()

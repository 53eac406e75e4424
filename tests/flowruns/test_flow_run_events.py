"""Every state of a flow run leaves an event, in the same transaction."""

from __future__ import annotations

from typing import Any

import pytest

from flowruns.models import FlowRun, FlowRunState
from flowruns.orchestration import engine
from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType
from orchestrator.events.models import Event
from tests.api import post
from tests.factories import deployment, flow, task_run, work_pool

pytestmark = pytest.mark.django_db


def events() -> list[Event]:
    return list(Event.objects.order_by("position"))


def test_a_life_is_told_state_by_state() -> None:
    key = post("/flow_runs/", {"flow_id": str(flow("etl", tags=["nightly"]).pk), "name": "otter", "tags": ["mine"]})[1]["id"]
    for type_ in ("RUNNING", "FAILED"):
        post(f"/flow_runs/{key}/set_state", {"state": {"type": type_, "message": f"now {type_}"}})
    told = events()
    assert [event.event for event in told] == ["prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Failed"]
    states = list(FlowRunState.objects.filter(run=key).order_by("timestamp"))
    assert [event.id for event in told] == [state.pk for state in states]
    assert [event.follows for event in told] == [None, states[0].pk, states[1].pk]
    last = told[-1]
    assert last.resource == {
        "prefect.resource.id": f"prefect.flow-run.{key}",
        "prefect.resource.name": "otter",
        "prefect.run-count": "1",
        "prefect.state-message": "now FAILED",
        "prefect.state-name": "Failed",
        "prefect.state-timestamp": states[-1].timestamp.isoformat(),
        "prefect.state-type": "FAILED",
    }
    assert last.payload == {
        "intended": {"from": "RUNNING", "to": "FAILED"},
        "initial_state": {"type": "RUNNING", "name": "Running", "message": "now RUNNING"},
        "validated_state": {"type": "FAILED", "name": "Failed", "message": "now FAILED"},
    }
    assert [item["prefect.resource.role"] for item in last.related] == ["flow", "tag", "tag"]


def test_what_a_run_belongs_to_is_told_in_order() -> None:
    pool = work_pool("local", type="process")
    of = deployment("nightly", work_queue=pool.default_queue, tags=["d"])
    parent = task_run(tags=["p"])
    post(f"/deployments/{of.pk}/create_flow_run", {"parent_task_run_id": str(parent.pk), "tags": ["r"]})
    related = events()[0].related
    roles = [item["prefect.resource.role"] for item in related]
    assert roles == ["flow", "deployment", "work-queue", "work-pool", "task-run", "tag", "tag", "tag"]
    assert related[3] == {
        "prefect.resource.id": f"prefect.work-pool.{pool.pk}",
        "prefect.resource.role": "work-pool",
        "prefect.resource.name": "local",
        "prefect.work-pool.type": "process",
    }
    assert [item["prefect.resource.id"] for item in related[5:]] == ["prefect.tag.d", "prefect.tag.p", "prefect.tag.r"]


def test_what_was_proposed_and_what_became_of_it_are_told_apart() -> None:
    key = post("/flow_runs/", {"flow_id": str(flow().pk), "state": {"type": "SCHEDULED"}})[1]["id"]
    post(f"/flow_runs/{key}/set_state", {"state": {"type": "CANCELLING"}})
    last = events()[-1]
    assert last.event == "prefect.flow-run.Cancelled"
    assert last.payload["intended"] == {"from": "SCHEDULED", "to": "CANCELLING"}


@pytest.mark.django_db(transaction=True)
def test_no_state_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    key = post("/flow_runs/", {"flow_id": str(flow().pk)})[1]["id"]
    before = Event.objects.count()

    def fail(*args: Any) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(engine, "emit_state", fail)
    assert post(f"/flow_runs/{key}/set_state", {"state": {"type": "RUNNING"}})[0] == 500
    assert FlowRun.objects.get(pk=key).state_type == "PENDING"
    assert Event.objects.count() == before


def test_a_refused_state_leaves_no_event() -> None:
    key = post("/flow_runs/", {"flow_id": str(flow().pk)})[1]["id"]
    before = Event.objects.count()
    assert engine.propose(FlowRun.objects.get(pk=key).pk, ProposedState(StateType.PENDING)).status == "ABORT"
    assert Event.objects.count() == before

"""Every move of the core policy has the answer that the reference server gives (recorded from version 3.8.8)."""

from __future__ import annotations

import pytest

from flowruns.orchestration.engine import propose, propose_task
from flowruns.orchestration.proposal import DETAILS, ProposedState
from flowruns.states import StateType, default_name
from tests.factories import deployment, flow_run, task_run

TYPES = [type_.value for type_ in StateType]
TERMINAL = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]
NOT_RUNNING = ("REJECT", "Cannot pause flows that are not currently running.")
IS_CANCELLING = ("REJECT", "Cannot transition flows that are cancelling to a state other than Cancelled.")
NO_INFRASTRUCTURE = ("REJECT", "Scheduled flow run has no infrastructure to terminate.")
NO_DEPLOYMENT = ("ABORT", "Cannot reschedule a run without an associated deployment.")
LEAVING_PAUSE = (
    "REJECT",
    "This run cannot transition to the StateType.PENDING state from the StateType.PAUSED state.",
)


def taken(type_: str) -> tuple[str, str]:
    return "ABORT", f"This run is in a {type_} state and cannot transition to a PENDING state."


REFUSED = {
    ("SCHEDULED", "PAUSED"): NOT_RUNNING,
    ("PENDING", "PAUSED"): NOT_RUNNING,
    ("PAUSED", "PAUSED"): NOT_RUNNING,
    ("SCHEDULED", "CANCELLING"): NO_INFRASTRUCTURE,
    ("PAUSED", "PENDING"): LEAVING_PAUSE,
    **{(type_, "PENDING"): taken(type_) for type_ in ("PENDING", "RUNNING", "CANCELLED")},
    **{("CANCELLING", type_): IS_CANCELLING for type_ in TYPES if type_ != "CANCELLED"},
    **{
        (type_, to): ("ABORT", f"Run is already in terminal state {type_}.")
        for type_ in TERMINAL
        for to in ("CRASHED", "PAUSED", "CANCELLING")
    },
}
WRITTEN_INSTEAD = {("SCHEDULED", "CANCELLING"): "CANCELLED"}


@pytest.mark.django_db
@pytest.mark.parametrize("deployed", [False, True])
@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("leaving", TYPES)
def test_every_move_of_a_flow_run_has_its_answer(leaving: str, to: str, deployed: bool) -> None:
    run = flow_run(leaving, deployment=deployment()) if deployed else flow_run(leaving)
    outcome = propose(run.pk, ProposedState(StateType(to)))
    refused = dict(REFUSED)
    if not deployed:
        refused |= {(type_, "SCHEDULED"): NO_DEPLOYMENT for type_ in TERMINAL}
    expected = refused.get((leaving, to), ("ACCEPT", None))
    assert (outcome.status, outcome.details.get("reason")) == expected
    after = to if expected[0] == "ACCEPT" else WRITTEN_INSTEAD.get((leaving, to), leaving)
    assert outcome.state is not None
    assert (outcome.state["type"], outcome.state["name"]) == (after, default_name(after))
    run.refresh_from_db()
    assert run.state_type == after
    assert run.state_id == outcome.state["id"]
    assert outcome.written == (run.states.count() == 2)


@pytest.mark.django_db
@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("leaving", TYPES)
def test_a_forced_state_is_written_whatever_the_run_is_doing(leaving: str, to: str) -> None:
    run = flow_run(leaving)
    outcome = propose(run.pk, ProposedState(StateType(to)), force=True)
    instead = WRITTEN_INSTEAD.get((leaving, to))
    assert outcome.written
    assert outcome.status == ("REJECT" if instead else "ACCEPT")
    run.refresh_from_db()
    assert run.state_type == (instead or to)


@pytest.mark.django_db
@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("leaving", TYPES)
def test_every_move_of_a_task_run_has_its_answer(leaving: str, to: str) -> None:
    inside = flow_run("RUNNING")
    run = task_run(leaving, flow_run=inside)
    outcome = propose_task(run.pk, ProposedState(StateType(to)))
    assert outcome.state is not None
    if leaving in TERMINAL and to in {"CRASHED", "PAUSED", "CANCELLING"}:
        assert (outcome.status, outcome.details["reason"]) == ("ABORT", f"Run is already {leaving}.")
        assert outcome.state["type"] == leaving
        return
    name = default_name(to)
    if to == "RUNNING" and leaving in TERMINAL:
        name = "Retrying"
    if to == "RUNNING" and leaving == "RUNNING":
        name = "Rerunning"
    assert outcome.status == "ACCEPT"
    assert (outcome.state["type"], outcome.state["name"]) == (to, name)


@pytest.mark.django_db
def test_an_answer_has_all_details_in_the_order_of_the_wire() -> None:
    run = flow_run("PENDING")
    body = propose(run.pk, ProposedState(StateType.RUNNING, message="go", data={"x": 1})).body()
    assert list(body) == ["state", "status", "details"]
    assert list(body["state"]) == ["id", "type", "name", "timestamp", "message", "data", "state_details"]
    assert list(body["state"]["state_details"]) == list(DETAILS)
    assert body["state"]["state_details"]["flow_run_id"] == str(run.pk)
    assert body["state"]["data"] == {"x": 1}
    assert body["details"] == {"type": "accept_details"}


@pytest.mark.django_db
def test_an_unpersisted_result_is_echoed_and_not_kept() -> None:
    run = flow_run("RUNNING")
    outcome = propose(run.pk, ProposedState(StateType.COMPLETED, data={"type": "unpersisted"}))
    assert outcome.state is not None
    assert outcome.state["data"] == {"type": "unpersisted"}
    assert run.states.get(type="COMPLETED").data is None

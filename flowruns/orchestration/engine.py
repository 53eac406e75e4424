"""The one door to a new state: lock the run, ask the rules, write the state and what follows from it.

One transaction. Nothing else writes a run's state. Contract: runs_states_orchestration.md, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from flowruns import artifacts
from flowruns.events import emit_state
from flowruns.models import FlowRun, FlowRunState, TaskRun, TaskRunState
from flowruns.orchestration import bookkeeping, deployment_slots, policies
from flowruns.orchestration.deployment_slots import LEASE
from flowruns.orchestration.proposal import ProposedState, full_details
from flowruns.orchestration.transition import Rule, Transition, Version, Work
from flowruns.orchestration.verdicts import Outcome, Verdict
from flowruns.states import HOLDING, StateType
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import Missing
from orchestrator.core.prepared import Prepared, insert, update

Policy = Iterable[Rule]
CLIENT = re.compile(r"prefect/(\d{1,9})\.(\d{1,9})\.(\d{1,9})\S* \(API \S+\)")
MICROSECOND = timedelta(microseconds=1)
ACCEPTED = {"type": "accept_details"}


LOCKED_FLOW_RUN = Prepared(
    lambda key: FlowRun.objects.select_for_update(of=("self",)).select_related("state").filter(pk=key), UUID
)
LOCKED_TASK_RUN = Prepared(
    lambda key: TaskRun.objects.select_for_update(of=("self",)).select_related("state", "flow_run__state").filter(pk=key), UUID
)


def propose(
    run_id: UUID, proposed: ProposedState, *, force: bool = False, policy: Policy | None = None, user_agent: str = ""
) -> Outcome:
    """Change a flow run's state, or say why not. Raises Missing for an unknown run.

    `force` asks the minimal policy instead of `policy` (the core policy). `user_agent` tells what the client can do.
    """
    rules = policies.MINIMAL_FLOW if force else policy or policies.CORE_FLOW
    return in_one_transaction(lambda: _propose_flow(run_id, proposed, rules, client_version(user_agent)))


def propose_task(run_id: UUID, proposed: ProposedState, *, force: bool = False) -> Outcome:
    """The same for a task run. A deferred one, which task workers fetch, has a policy of its own, even if forced."""
    rules: Policy = policies.MINIMAL_TASK if force else policies.CORE_TASK
    if proposed.details.get("deferred"):
        rules = policies.BACKGROUND_TASK
    return in_one_transaction(lambda: _propose_task(run_id, proposed, rules))


def client_version(user_agent: str) -> Version | None:
    """The version in a client's User-Agent; None when it names none."""
    found = CLIENT.fullmatch(user_agent)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _propose_flow(run_id: UUID, proposed: ProposedState, rules: Policy, client: Version | None) -> Outcome:
    run = _current(LOCKED_FLOW_RUN.first(run_id), FlowRunState)
    if run is None:
        raise Missing(f"Flow run with id {run_id} not found")
    outcome, written = _decide(run, proposed, rules, FlowRunState, client)
    if written:
        lead_parent(run, written)
    return outcome


def lead_parent(run: FlowRun, written: ProposedState) -> None:
    """Force the task run that stands for a subflow run into a copy of the state that was written to the subflow run."""
    if run.parent_task_run_id:
        _propose_task(run.parent_task_run_id, written.saying(child_flow_run_id=str(run.pk)), policies.MINIMAL_TASK)


def _propose_task(run_id: UUID, proposed: ProposedState, rules: Policy) -> Outcome:
    run = _current(LOCKED_TASK_RUN.first(run_id), TaskRunState)
    if run is None:
        raise Missing(f"Task run with id {run_id} not found")
    return _decide(run, proposed, rules, TaskRunState, None)[0]


def _current(run: Any, model: Any) -> Any:
    """The locked run with its current state.

    PostgreSQL reads the joined state before it waits for the lock: when somebody changed the run meanwhile, the row is
    the new one and the join has found nothing.
    """
    if run is not None and run.state_id and run.state is None:
        run.state = model.objects.filter(pk=run.state_id).first()
    return run


def _decide(
    run: Any, proposed: ProposedState, rules: Policy, model: Any, client: Version | None
) -> tuple[Outcome, ProposedState | None]:
    """The outcome, and the state that was written, if one was."""
    initial = value_of(run.state) if run.state else None
    transition = Transition(run, initial, proposed, timezone.now(), dict(run.empirical_policy), client=client)
    verdict, opened = _ask(rules, transition)
    transition.written = transition.proposed if verdict is None else verdict.replacement
    row = run.state
    if transition.written:
        row = _insert(run, transition.written, transition, model)
    for steps in reversed(opened):
        _finish(steps, verdict is None)
    before = run.state
    _update(run, transition)
    if transition.written and isinstance(run, FlowRun):
        emit_state(run, row, before, proposed.type.value)
    state = wire(row) if row else None
    if state and transition.written:
        state["data"] = transition.written.data
    status, details = ("ACCEPT", ACCEPTED) if verdict is None else (verdict.status, verdict.details())
    return Outcome(status, state, details, transition.written is not None), transition.written


def _ask(rules: Policy, transition: Transition) -> tuple[Verdict | None, list[Work]]:
    """Ask the rules in order until one has a verdict; also the rules that have something to do after the write."""
    opened: list[Work] = []
    for rule in rules:
        if not rule.governs(transition.leaving, transition.proposed.type):
            continue
        try:
            steps = rule.function(transition)
            if steps is not None:
                next(steps)
                opened.append(steps)
        except Verdict as verdict:
            return verdict, opened
    return None, opened


def _finish(steps: Work, stood: bool) -> None:
    try:
        steps.send(stood)
    except StopIteration:
        return


def _insert(run: Any, state: ProposedState, transition: Transition, model: Any) -> Any:
    """Insert the state; the columns of the run that follow from it wait in the transition."""
    at = _moment_after(run.state_timestamp)
    row = _row(run, state, model, at)
    insert(row)
    _keep_result(run, row)
    before, run.empirical_policy = run.empirical_policy, transition.policy
    columns = bookkeeping.derived(run, state, at, is_task=isinstance(run, TaskRun))
    run.empirical_policy = before
    transition.policy = columns.pop("empirical_policy", transition.policy)
    transition.columns |= {name: value for name, value in columns.items() if getattr(run, name) != value}
    transition.columns["state"] = row
    return row


def _update(run: Any, transition: Transition) -> None:
    """Write the columns of the run that changed, if any did."""
    columns = transition.columns if transition.written else {}
    if transition.policy != run.empirical_policy:
        columns = {**columns, "empirical_policy": transition.policy}
    for name, value in columns.items():
        setattr(run, name, value)
    if columns:
        update(run, [*columns])


def _keep_result(run: Any, row: Any) -> None:
    if row.data is not None:
        flow_run_id, task_run_id = (run.pk, None) if isinstance(run, FlowRun) else (run.flow_run_id, run.pk)
        artifacts.of_result(row.data, flow_run_id, task_run_id)


def _moment_after(last: datetime | None) -> datetime:
    """Now, and later than the state before it."""
    now = timezone.now()
    return now if last is None or now > last else last + MICROSECOND


def _row(run: Any, state: ProposedState, model: Any, at: datetime) -> Any:
    details = full_details(state.details)
    own, other = ("flow_run_id", "task_run_id") if isinstance(run, FlowRun) else ("task_run_id", "flow_run_id")
    above = run.parent_task_run_id if isinstance(run, FlowRun) else run.flow_run_id
    details |= {own: str(run.pk), other: str(above) if above else None}
    unpersisted = isinstance(state.data, dict) and state.data.get("type") == "unpersisted"
    return model(
        run=run,
        type=state.type.value,
        name=state.name,
        timestamp=at,
        message=state.message,
        details=details,
        data=None if unpersisted else state.data,
    )


def initial_state(run: Any, proposed: ProposedState) -> Any:
    """The first state of an unsaved run: its row, unsaved, with the run's columns set to match. No rule refuses it."""
    at = timezone.now()
    row = _row(run, proposed, FlowRunState if isinstance(run, FlowRun) else TaskRunState, at)
    for name, value in bookkeeping.derived(run, proposed, at, is_task=isinstance(run, TaskRun)).items():
        setattr(run, name, value)
    run.state = row
    return row


def release_slots(runs: QuerySet[FlowRun]) -> None:
    """Give back the slots that runs hold which are about to be deleted."""
    for run in runs.filter(state_type__in=HOLDING, deployment__isnull=False).select_related("state"):
        deployment_slots.give_back(run, run.state.details.get(LEASE) if run.state else None)


def value_of(row: FlowRunState | TaskRunState) -> ProposedState:
    """A state of the history as a value."""
    return ProposedState(StateType(row.type), row.name, row.message, row.data, row.details)


def wire(row: FlowRunState | TaskRunState) -> dict[str, Any]:
    """A state row as the wire shows it."""
    return {
        "id": row.pk,
        "type": row.type,
        "name": row.name,
        "timestamp": row.timestamp,
        "message": row.message,
        "data": row.data,
        "state_details": full_details(row.details),
    }

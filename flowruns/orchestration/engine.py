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

from flowruns.models import FlowRun, FlowRunState, TaskRun, TaskRunState
from flowruns.orchestration import bookkeeping, deployment_slots, policies
from flowruns.orchestration.proposal import ProposedState, full_details
from flowruns.orchestration.transition import Rule, Steps, Transition
from flowruns.orchestration.verdicts import Outcome, Reject, Verdict
from flowruns.states import HOLDING, StateType
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import Missing

Policy = Iterable[Rule]
CLIENT = re.compile(r"prefect/(\d+)\.(\d+)\.(\d+)\S* \(API \S+\)")
RENEWING_CLIENT = (3, 4, 11)
LEASE = "deployment_concurrency_lease_id"
MICROSECOND = timedelta(microseconds=1)
ACCEPTED = {"type": "accept_details"}


def propose(
    run_id: UUID, proposed: ProposedState, *, force: bool = False, policy: Policy | None = None, user_agent: str = ""
) -> Outcome:
    """Change a flow run's state, or say why not. Raises Missing for an unknown run."""
    rules = policies.MINIMAL_FLOW if force else policy or policies.CORE_FLOW
    return in_one_transaction(lambda: _propose_flow(run_id, proposed, rules, renews_leases(user_agent)))


def propose_task(run_id: UUID, proposed: ProposedState, *, force: bool = False) -> Outcome:
    """The same for a task run."""
    rules: Policy = policies.MINIMAL_TASK if force else policies.CORE_TASK
    return in_one_transaction(lambda: _propose_task(run_id, proposed, rules))


def renews_leases(user_agent: str) -> bool:
    """Whether the client is known to renew the lease of its deployment slot."""
    found = CLIENT.fullmatch(user_agent)
    return found is not None and tuple(map(int, found.groups())) >= RENEWING_CLIENT


def _propose_flow(run_id: UUID, proposed: ProposedState, rules: Policy, renews: bool) -> Outcome:
    run = FlowRun.objects.select_for_update(of=("self",)).select_related("state").filter(pk=run_id).first()
    if run is None:
        raise Missing(f"Flow run with id {run_id} not found")
    outcome, written = _decide(run, proposed, rules, FlowRunState, renews)
    if written and run.parent_task_run_id:
        parent = written.saying(child_flow_run_id=str(run.pk))
        _propose_task(run.parent_task_run_id, parent, policies.MINIMAL_TASK)
    return outcome


def _propose_task(run_id: UUID, proposed: ProposedState, rules: Policy) -> Outcome:
    locked = TaskRun.objects.select_for_update(of=("self",)).select_related("state", "flow_run__state")
    run = locked.filter(pk=run_id).first()
    if run is None:
        raise Missing(f"Task run with id {run_id} not found")
    return _decide(run, proposed, rules, TaskRunState, False)[0]


def _decide(run: Any, proposed: ProposedState, rules: Policy, model: Any, renews: bool) -> tuple[Outcome, ProposedState | None]:
    """The outcome, and the state that was written, if one was."""
    initial = value_of(run.state) if run.state else None
    transition = Transition(run, initial, proposed, timezone.now(), dict(run.empirical_policy), renews_leases=renews)
    opened: list[Steps] = []
    verdict: Verdict | None = None
    for rule in rules:
        if not rule.governs(transition.leaving, transition.proposed.type):
            continue
        try:
            steps = rule.function(transition)
        except Verdict as said:
            verdict = said
            break
        if steps is not None:
            next(steps)
            opened.append(steps)
    state = transition.proposed if verdict is None else verdict.state if isinstance(verdict, Reject) else None
    current = run.state
    if state is not None:
        current = _write(run, state, transition, model)
        if isinstance(run, FlowRun):
            _release_slot(run, transition, state, verdict)
    elif transition.policy != run.empirical_policy:
        run.empirical_policy = transition.policy
        run.save(update_fields=["empirical_policy"])
    for steps in reversed(opened):
        _finish(steps, verdict is None)
    details = ACCEPTED if verdict is None else verdict.details()
    status = "ACCEPT" if verdict is None else verdict.status
    return Outcome(status, wire(current) if current else None, details, state is not None), state


def _finish(steps: Any, written: bool) -> None:
    try:
        steps.send(written)
    except StopIteration:
        return


def _write(run: Any, state: ProposedState, transition: Transition, model: Any) -> Any:
    """Insert the state and update the run's columns that follow from it."""
    at = _moment_after(run.state_timestamp)
    row = _row(run, state, model, at)
    run.empirical_policy = transition.policy
    columns = transition.columns | bookkeeping.derived(run, state, at, is_task=isinstance(run, TaskRun))
    if "empirical_policy" not in columns:
        columns["empirical_policy"] = transition.policy
    row.save(force_insert=True)
    for name, value in columns.items():
        setattr(run, name, value)
    run.state = row
    run.save(update_fields=["state", *columns])
    return row


def _moment_after(last: datetime | None) -> datetime:
    """Now, and later than the state before it."""
    now = timezone.now()
    return now if last is None or now > last else last + MICROSECOND


def _row(run: Any, state: ProposedState, model: Any, at: datetime) -> Any:
    details = full_details(state.details)
    if isinstance(run, FlowRun):
        details["flow_run_id"] = str(run.pk)
        details["task_run_id"] = str(run.parent_task_run_id) if run.parent_task_run_id else None
    else:
        details["task_run_id"] = str(run.pk)
        details["flow_run_id"] = str(run.flow_run_id) if run.flow_run_id else None
    data = None if isinstance(state.data, dict) and state.data.get("type") == "unpersisted" else state.data
    return model(
        run=run,
        type=state.type.value,
        name=state.name,
        timestamp=at,
        message=state.message,
        details=details,
        data=data,
    )


def _release_slot(run: FlowRun, transition: Transition, state: ProposedState, verdict: Verdict | None) -> None:
    """Give the deployment's slot back when the run leaves the states that hold one, but for a retry in its process."""
    if transition.leaving not in HOLDING or state.type in HOLDING or run.deployment_id is None:
        return
    if verdict is not None and state.name == "AwaitingRetry":
        return
    lease = transition.initial_detail(LEASE) or transition.proposed.details.get(LEASE)
    deployment_slots.give_back(run, lease)


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

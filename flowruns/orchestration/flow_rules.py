"""The rules of flow runs: one function per rule (contract: runs_states_orchestration.md, section 5.1).

A rule may change the proposal, raise a verdict, or yield. What follows the yield is done when all rules have had their say
and the state is written; it learns whether the proposal stood. `docs/orchestration.md` explains each rule.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from django.conf import settings

from flowruns.orchestration import delays, deployment_slots
from flowruns.orchestration.deployment_slots import LEASE, DeploymentGone
from flowruns.orchestration.proposal import ProposedState, iso, read_time
from flowruns.orchestration.transition import ANY, Steps, Transition, Version, Work, only, rule
from flowruns.orchestration.verdicts import Abort, Reject, Wait
from flowruns.states import HOLDING, TERMINAL, StateType
from orchestrator.concurrency import slots

SCHEDULED, PENDING, RUNNING = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING
COMPLETED, FAILED, CANCELLED = StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED
PAUSED, CANCELLING, CRASHED = StateType.PAUSED, StateType.CANCELLING, StateType.CRASHED
LIMIT_REACHED = "Deployment concurrency limit reached."
# Clients that count the slots of a deployment by themselves.
COUNTING_CLIENTS: tuple[Version, Version] = ((3, 0, 0), (3, 0, 3))
UNTIL_GIVEN_BACK = timedelta(days=36_500)


@rule()
def keep_lease(transition: Transition) -> Steps:
    """The lease of a deployment slot stays with the run from state to state."""
    transition.carry(LEASE)
    return None


@rule()
def refuse_repeated_transition(transition: Transition) -> Steps:
    """A client that sends a transition again, after a lost answer, must not make it twice."""
    token = transition.proposed.details.get("transition_id")
    if token and token == transition.initial_detail("transition_id"):
        raise Reject("This run has already made this state transition.")
    return None


@rule(leaving=TERMINAL)
def settle_terminal_states(transition: Transition) -> Steps:
    """A run that ended stays ended, but for runs that may begin again."""
    initial, proposed = transition.initial, transition.proposed
    assert initial is not None
    if proposed.type in {CANCELLING, PAUSED, CRASHED}:
        raise Abort(f"Run is already in terminal state {initial.type}.")
    if initial.type == COMPLETED and initial.persisted:
        if not proposed.is_terminal:
            raise Reject("Run is already COMPLETED.")
        keep_persisted_result(transition)
    if proposed.is_terminal:
        return None
    if proposed.type == SCHEDULED and transition.run.deployment_id is None:
        raise Abort("Cannot reschedule a run without an associated deployment.")
    return begin_again(transition)


def begin_again(transition: Transition) -> Work:
    """Forget the pauses of the run before; remember them if the run does not begin again after all."""
    before = dict(transition.policy)
    retry = "reschedule" if transition.proposed.type == SCHEDULED else None
    transition.policy |= {"resuming": False, "pause_keys": [], "retry_type": retry}
    stood = yield
    if not stood:
        transition.policy = before


def keep_persisted_result(transition: Transition) -> None:
    if transition.proposed.type == COMPLETED and not transition.proposed.persisted:
        raise Reject("Cannot overwrite a COMPLETED state that carries persisted result data with one that does not.")


@rule(leaving=only(COMPLETED), entering=only(COMPLETED))
def protect_persisted_result(transition: Transition) -> Steps:
    """Even a forced state does not take a kept result away."""
    if transition.initial and transition.initial.persisted:
        keep_persisted_result(transition)
    return None


@rule(leaving=only(CANCELLING), entering=ANY - {CANCELLED})
def cancel_one_way(transition: Transition) -> Steps:
    """A run that is being cancelled can only become cancelled."""
    raise Reject("Cannot transition flows that are cancelling to a state other than Cancelled.")


@rule(leaving=only(SCHEDULED, PAUSED), entering=only(CANCELLING))
def cancel_at_once(transition: Transition) -> Steps:
    """A run that nobody executes has nothing to stop: it is cancelled right away."""
    initial = transition.initial
    assert initial is not None
    if initial.type == SCHEDULED and (not transition.run.infrastructure_pid or initial.name == "Resuming"):
        reason = "Scheduled flow run has no infrastructure to terminate."
        raise Reject(reason, cancelled(transition))
    if initial.type == PAUSED and initial.details.get("pause_reschedule"):
        reason = "Suspended flow run has no infrastructure to terminate."
        raise Reject(reason, cancelled(transition))
    return None


def cancelled(transition: Transition, message: str | None = None) -> ProposedState:
    return ProposedState(CANCELLED, message=message, details={LEASE: transition.initial_detail(LEASE)})


@rule(leaving=only(PENDING, CANCELLING, RUNNING, CANCELLED), entering=only(PENDING))
def refuse_second_pending(transition: Transition) -> Steps:
    """Of two workers that take a run, the first has it. Its own reports under other names are welcome."""
    initial = transition.initial
    assert initial is not None
    if initial.type == PENDING and transition.proposed.name not in {"Pending", initial.name}:
        transition.carry("scheduled_time")
        transition.carry(LEASE)
        return None
    raise Abort(f"This run is in a {initial.type} state and cannot transition to a PENDING state.")


@rule(leaving=only(PENDING), entering=only(RUNNING))
def check_lease(transition: Transition) -> Steps:
    """A run whose slot was lost while its infrastructure was made takes another, or is cancelled."""
    transition.carry(LEASE)
    lease = transition.proposed.details.get(LEASE)
    if not lease or not transition.renews_leases:
        return None
    try:
        limit = deployment_slots.limit_of(transition.run)
    except DeploymentGone:
        return None
    if limit is None or slots.renew(UUID(lease), limit.grace):
        return None
    taken = limit.take(transition.run)
    if taken is None:
        message = "Deployment concurrency slot lost during provisioning - no slots available to continue execution"
        raise Reject("Deployment concurrency limit reached after lease expiry.", cancelled(transition, message))
    transition.proposed = transition.proposed.saying(**{LEASE: str(taken)})
    return None


@rule(leaving=ANY - HOLDING, entering=only(PENDING))
def take_deployment_slot(transition: Transition) -> Steps:
    """One slot of the deployment's limit is held from PENDING until the run ends.

    It is the last rule: nothing after it refuses, so a slot is never taken in vain.
    """
    if transition.client is not None and COUNTING_CLIENTS[0] <= transition.client <= COUNTING_CLIENTS[1]:
        return None
    try:
        limit = deployment_slots.limit_of(transition.run)
    except DeploymentGone:
        raise Abort("Deployment not found.") from None
    if limit is None:
        return None
    if limit.limit == 0:
        raise Abort("The deployment concurrency limit is 0. The flow will deadlock if submitted again.")
    lease = limit.take(transition.run)
    if lease is not None:
        transition.proposed = transition.proposed.saying(**{LEASE: str(lease)})
        return None
    if limit.cancels_new:
        raise Reject(LIMIT_REACHED, ProposedState(CANCELLED, message=LIMIT_REACHED))
    again = iso(transition.now + settings.CONCURRENCY_SLOT_WAIT)
    waiting = ProposedState(SCHEDULED, "AwaitingConcurrencySlot", details={"scheduled_time": again})
    raise Reject(LIMIT_REACHED, waiting)


@rule(leaving=only(PENDING), entering=only(RUNNING, CANCELLING))
def keep_slot_of_old_client(transition: Transition) -> Work:
    """A client that cannot renew its lease keeps the slot until the run ends."""
    stood = yield
    lease = transition.initial_detail(LEASE)
    if stood and lease and not transition.renews_leases:
        slots.renew(UUID(lease), UNTIL_GIVEN_BACK)


@rule()
def release_deployment_slot(transition: Transition) -> Work:
    """The slot is given back when the run leaves the states that hold one, but for a retry in its own process."""
    stood = yield
    written = transition.written
    if written is None or transition.leaving not in HOLDING or written.type in HOLDING:
        return
    if written.name == "AwaitingRetry" and not stood:
        return
    deployment_slots.give_back(transition.run, transition.initial_detail(LEASE) or written.details.get(LEASE))


@rule(entering=only(SCHEDULED))
def mark_late_once(transition: Transition) -> Steps:
    """Only a run that waits for its time is late, and it is marked once."""
    if transition.proposed.name != "Late":
        return None
    if transition.leaving != SCHEDULED:
        raise Reject("Only scheduled flows can be marked late.")
    if transition.initial and transition.initial.name == "Late":
        raise Reject("This flow run is already marked late.")
    return None


@rule(leaving=only(SCHEDULED), entering=only(SCHEDULED))
def cancel_late_run_of_full_deployment(transition: Transition) -> Steps:
    """A late run of a full deployment that cancels new runs is cancelled instead of waiting on."""
    if transition.proposed.name != "Late":
        return None
    try:
        limit = deployment_slots.limit_of(transition.run)
    except DeploymentGone:
        return None
    if limit and limit.cancels_new and limit.full():
        reason = "Deployment concurrency limit is full and uses the CANCEL_NEW strategy."
        raise Reject(reason, ProposedState(CANCELLED, message=LIMIT_REACHED))
    return None


@rule(entering=only(PAUSED))
def pause_running_runs(transition: Transition) -> Steps:
    """Only a running run pauses, each pause fires once, and who is suspended must be able to come back."""
    proposed, run = transition.proposed, transition.run
    verb = "suspend" if proposed.name == "Suspended" else "pause"
    if transition.initial is None:
        raise Abort(f"Cannot {verb} flows with no state.")
    if transition.leaving != RUNNING:
        raise Reject(f"Cannot {verb} flows that are not currently running.")
    key = proposed.details.get("pause_key") or str(uuid4())
    fired = transition.policy.get("pause_keys") or []
    if key in fired:
        raise Reject(f"This {verb} has already fired.")
    if proposed.details.get("pause_reschedule"):
        if run.parent_task_run_id:
            raise Abort(f"Cannot {verb} subflows.")
        if run.deployment_id is None:
            raise Abort(f"Cannot {verb} flows without a deployment.")
    transition.policy["pause_keys"] = [*fired, key]
    return None


@rule(leaving=only(PAUSED))
def leave_pause(transition: Transition) -> Work:
    """A paused run goes on, ends or is cancelled; after its timeout it has failed."""
    initial, proposed = transition.initial, transition.proposed
    assert initial is not None
    if proposed.type not in {RUNNING, SCHEDULED, CANCELLING, *TERMINAL}:
        transition.policy["resuming"] = True
        raise Reject(f"This run cannot transition to the StateType.{proposed.type} state from the StateType.PAUSED state.")
    if initial.details.get("pause_reschedule") and transition.run.deployment_id is None:
        transition.policy["resuming"] = True
        raise Reject(f"Cannot reschedule a {proposed.name} flow run without a deployment.")
    timeout = read_time(initial.details.get("pause_timeout"))
    if proposed.type != CANCELLING and timeout and timeout < transition.now:
        failed = ProposedState(FAILED, message=f"The flow was {proposed.name.lower()} and never resumed.")
        raise Reject("The flow run pause has timed out and can no longer resume.", failed)
    yield
    transition.policy = {**transition.policy, "resuming": True}


@rule(leaving=only(SCHEDULED), entering=only(PENDING))
def keep_scheduled_time(transition: Transition) -> Steps:
    """A pending run remembers the time it was scheduled for."""
    transition.carry("scheduled_time")
    return None


@rule(leaving=only(SCHEDULED, PENDING), entering=only(RUNNING))
def wait_for_scheduled_time(transition: Transition) -> Steps:
    """A run does not start before its time."""
    time = read_time(transition.initial_detail("scheduled_time"))
    seconds = round((time - transition.now).total_seconds()) if time else 0
    if seconds > 0:
        raise Wait(seconds, "Scheduled time is in the future")
    return None


@rule(leaving=only(RUNNING), entering=only(FAILED))
def retry_failed_runs(transition: Transition) -> Steps:
    """A failed run with retries left is scheduled again in the same process."""
    retries = transition.policy.get("retries")
    if retries is None or transition.run.run_count > retries:
        transition.policy["retry_type"] = None
        return None
    transition.policy |= {"resuming": False, "pause_keys": [], "retry_type": "in_process"}
    again_at = delays.at(transition.now, delays.retry_delay_seconds(transition.policy, transition.run.run_count))
    details = {"scheduled_time": iso(again_at), LEASE: transition.initial_detail(LEASE)}
    proposed = transition.proposed
    again = ProposedState(SCHEDULED, "AwaitingRetry", proposed.message, proposed.data, details)
    raise Reject("Retrying", again)

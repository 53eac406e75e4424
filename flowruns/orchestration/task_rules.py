"""The rules of task runs that reach the server over HTTP (contract: runs_states_orchestration.md, section 5.2)."""

from __future__ import annotations

from dataclasses import replace

from django.db.models import Q

from flowruns import deliveries
from flowruns.models import CachedState
from flowruns.orchestration import delays
from flowruns.orchestration.proposal import ProposedState, iso, read_time
from flowruns.orchestration.transition import Steps, Transition, Work, only, rule
from flowruns.orchestration.verdicts import Abort, Reject, Wait
from flowruns.schemas import MAX_KEY
from flowruns.states import TERMINAL, StateType
from orchestrator.concurrency import tags
from orchestrator.core.delays import around

RUNNING, FAILED, COMPLETED, PAUSED = StateType.RUNNING, StateType.FAILED, StateType.COMPLETED, StateType.PAUSED


@rule(leaving=TERMINAL)
def settle_terminal_task_states(transition: Transition) -> Steps:
    """A task run that ended stays ended, unless it runs again from the start."""
    initial, proposed = transition.initial, transition.proposed
    assert initial is not None
    if proposed.type in {StateType.CANCELLING, PAUSED, StateType.CRASHED}:
        raise Abort(f"Run is already {initial.type}.")
    if initial.type == COMPLETED and initial.persisted:
        raise Reject("This run is already completed.")
    return None if proposed.is_terminal else begin_again(transition)


def begin_again(transition: Transition) -> Work:
    """Count runs from zero; go back to the old count if the run does not begin again after all."""
    run, before = transition.run, transition.run.run_count
    run.run_count = transition.columns["run_count"] = 0
    flow_run = run.flow_run
    if transition.proposed.type == RUNNING and flow_run and run.flow_run_run_count < flow_run.run_count:
        transition.proposed = replace(transition.proposed, name="Retrying")
    stood = yield
    if not stood:
        run.run_count = transition.columns["run_count"] = before


@rule(entering=only(RUNNING))
def run_inside_running_flow(transition: Transition) -> Steps:
    """A task starts only while its flow run is running."""
    flow_run = transition.run.flow_run
    if flow_run is None or flow_run.state_type == RUNNING:
        return None
    if flow_run.state_type == PAUSED:
        state = flow_run.state.details if flow_run.state else {}
        details = {key: state.get(key) for key in ("pause_timeout", "pause_reschedule")}
        reason = f"The flow is paused, new tasks can execute after resuming flow run: {flow_run.pk}."
        raise Reject(reason, ProposedState(PAUSED, "NotReady", details=details))
    raise Abort("The enclosing flow must be running to begin task execution.")


@rule(leaving=only(RUNNING), entering=only(FAILED))
def retry_failed_task_runs(transition: Transition) -> Steps:
    """A failed task run with retries left is scheduled again after its delay."""
    proposed, policy, count = transition.proposed, transition.policy, transition.run.run_count
    retries = policy.get("retries")
    if proposed.details.get("retriable") is False or not retries or count > retries:
        return None
    again_at = delays.at(transition.now, delays.retry_delay_seconds(policy, count))
    details = {"scheduled_time": iso(again_at)}
    again = ProposedState(StateType.SCHEDULED, "AwaitingRetry", proposed.message, proposed.data, details)
    raise Reject("Retrying", again)


@rule(entering=only(RUNNING))
def name_repeated_runs(transition: Transition) -> Steps:
    """A task run that runs again says so in its state's name."""
    if transition.initial is None or transition.run.run_count == 0:
        return None
    name = "Retrying" if transition.initial.name == "AwaitingRetry" else "Rerunning"
    transition.proposed = replace(transition.proposed, name=name)
    return None


@rule(entering=only(RUNNING))
def count_flow_run(transition: Transition) -> Work:
    """A task run remembers in which try of its flow run it ran."""
    stood = yield
    if stood and transition.run.flow_run:
        transition.columns["flow_run_run_count"] = transition.run.flow_run.run_count


@rule(entering=only(RUNNING))
def take_cached_state(transition: Transition) -> Steps:
    """A task run whose result is in the server's cache takes it over and does not run."""
    details = transition.proposed.details
    if not (key := details.get("cache_key")) or details.get("refresh_cache"):
        return None
    fresh = Q(cache_expiration__isnull=True) | Q(cache_expiration__gt=transition.now)
    cached = CachedState.objects.filter(fresh, cache_key=key).order_by("-created").select_related("state").first()
    if cached is None or cached.state is None:
        return None
    state = cached.state
    raise Reject(
        "Retrieved state from cache",
        ProposedState(StateType(state.type), "Cached", state.message, state.data, state.details),
    )


@rule(entering=only(COMPLETED))
def cache_state(transition: Transition) -> Work:
    """A completed state with a cache key is there for others to take over."""
    key = transition.proposed.details.get("cache_key")
    if key and len(key) > MAX_KEY:
        raise Reject(f"Cache key exceeded maximum allowed length of {MAX_KEY} characters.", transition.proposed)
    stood = yield
    if stood and key and transition.columns.get("state"):
        expiration = read_time(transition.proposed.details.get("cache_expiration"))
        CachedState.objects.create(cache_key=key, cache_expiration=expiration, state=transition.columns["state"])


@rule(entering=only(RUNNING))
def hold_tag_slots(transition: Transition) -> Work:
    """A task run holds one slot of the limit of each of its tags while it runs."""
    run = transition.run
    if run.tags:
        try:
            tags.hold(run.tags, run.pk)
        except tags.TagClosed as error:
            raise Abort(str(error)) from None
        except tags.TagFull as error:
            raise Wait(max(1, round(around(error.seconds, 0.3))), str(error)) from None
    stood = yield
    if not stood and run.tags:
        tags.let_go(run.tags, run.pk)


@rule(leaving=only(RUNNING, StateType.CANCELLING))
def release_tag_slots(transition: Transition) -> Work:
    """The slots are given back when the task run stops running."""
    yield
    written = transition.written
    if transition.run.tags and written and written.type not in {RUNNING, StateType.CANCELLING}:
        tags.let_go(transition.run.tags, transition.run.pk)


@rule(leaving=only(StateType.SCHEDULED, StateType.PENDING), entering=only(StateType.PENDING, RUNNING))
def keep_task_parameters(transition: Transition) -> Steps:
    """A background task remembers where its parameters are."""
    transition.carry("task_parameters_id")
    return None


@rule(entering=only(StateType.SCHEDULED))
def offer_to_task_workers(transition: Transition) -> Work:
    """A background task that is scheduled is delivered to a task worker."""
    yield
    written = transition.written
    if written and written.type == StateType.SCHEDULED:
        deliveries.offer(transition.run, again=written.name == "AwaitingRetry")

"""Background loops over runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError
from django.db.models import QuerySet
from django.utils import timezone

from flowruns.models import FlowRun, TaskRun
from flowruns.orchestration import engine, policies
from flowruns.orchestration.proposal import ProposedState, read_time
from flowruns.removal import delete_flow_runs
from flowruns.states import TERMINAL, StateType
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import Missing
from orchestrator.core.loops import Loop

BATCH = 400
PAGE = 200
PARENT_CANCELLED = "The parent flow run was cancelled."
TIMED_OUT = "Flow run cancellation timed out; marked this flow run as Cancelled."

log = logging.getLogger(__name__)


class LateRuns(Loop):
    """Marks runs Late that should have started (contract: runs_states_orchestration.md, section 6.1)."""

    name = "late-runs"
    interval_seconds = settings.LATE_RUNS_LOOP.total_seconds()

    def poll(self) -> float:
        late = FlowRun.objects.scheduled().filter(
            state_name="Scheduled", next_scheduled_start_time__lte=timezone.now() - settings.LATE_AFTER
        )
        columns = ("pk", "state__details")
        found = list(late.order_by("next_scheduled_start_time").values_list(*columns)[:BATCH])
        marked = sum(self.mark(key, (details or {}).get("scheduled_time")) for key, details in found)
        return 0 if marked == BATCH else self.interval_seconds

    def mark(self, key: UUID, scheduled_time: str | None) -> bool:
        """Mark one run; whether that was done. A run that cannot be marked is logged and does not stop the others."""
        state = ProposedState(StateType.SCHEDULED, "Late", details={"scheduled_time": scheduled_time})
        try:
            return engine.propose(key, state, policy=policies.LATE_MARKING).written
        except Missing:
            log.debug("Run %s was deleted before it could be marked late", key)
        except DatabaseError:
            log.exception("Run %s could not be marked late", key)
        return False


class PauseExpirations(Loop):
    """Fails runs whose pause has lasted longer than it may (contract: runs_states_orchestration.md, section 6.2)."""

    name = "pause-expirations"
    interval_seconds = settings.PAUSE_EXPIRATIONS_LOOP.total_seconds()

    def poll(self) -> float:
        now = timezone.now()
        paused = FlowRun.objects.filter(state_type=StateType.PAUSED).order_by("pk")
        last: UUID | None = None
        while True:
            page = list((paused.filter(pk__gt=last) if last else paused).values_list("pk", "state__details")[:PAGE])
            for key, details in page:
                timeout = read_time((details or {}).get("pause_timeout"))
                if timeout and timeout < now:
                    propose_one(key, ProposedState(StateType.FAILED, message="The flow was paused and never resumed."), expired)
            if len(page) < PAGE:
                return self.interval_seconds
            last = page[-1][0]


def expired(run: FlowRun) -> bool:
    """Whether a locked run is still paused past its time."""
    timeout = read_time(run.state.details.get("pause_timeout")) if run.state and run.state_type == StateType.PAUSED else None
    return timeout is not None and timeout < timezone.now()


class CancellationCleanup(Loop):
    """Cancels what a cancelled run has left behind, and runs whose cancellation nobody confirms (section 6.3)."""

    name = "cancellation-cleanup"
    interval_seconds = settings.CANCELLATION_LOOP.total_seconds()

    def poll(self) -> float:
        now = timezone.now()
        self.cancel_task_runs(now)
        self.cancel_subflows(now)
        self.time_out(now)
        return self.interval_seconds

    def cancel_task_runs(self, now: datetime) -> None:
        lately = FlowRun.objects.filter(state_type=StateType.CANCELLED, end_time__gte=now - timedelta(days=1))
        left = TaskRun.objects.filter(flow_run__in=lately).exclude(state_type__in=sorted(TERMINAL))
        state = ProposedState(StateType.CANCELLED, message=PARENT_CANCELLED)
        for key in left.order_by("pk").values_list("pk", flat=True)[:BATCH]:
            propose_one(key, state, of_task=True)

    def cancel_subflows(self, now: datetime) -> None:
        """Subflow runs of runs that were cancelled. One with a deployment runs elsewhere: it is asked to stop."""
        lately = FlowRun.objects.filter(state_type=StateType.CANCELLED, end_time__gte=now - timedelta(days=1))
        alive = [state for state in StateType if state not in TERMINAL]
        left = FlowRun.objects.filter(parent_task_run__flow_run__in=lately, state_type__in=alive)
        for key, deployment_id, type_ in left.order_by("pk").values_list("pk", "deployment_id", "state_type")[:BATCH]:
            if deployment_id is None:
                propose_one(key, ProposedState(StateType.CANCELLED, message=PARENT_CANCELLED), ends_not)
            elif type_ != StateType.CANCELLING:
                propose_one(key, ProposedState(StateType.CANCELLING, message=PARENT_CANCELLED), ends_not)

    def time_out(self, now: datetime) -> None:
        stuck = FlowRun.objects.filter(state_type=StateType.CANCELLING, state_timestamp__lt=now - settings.CANCELLING_TIMEOUT)
        state = ProposedState(StateType.CANCELLED, message=TIMED_OUT)
        for key in stuck.order_by("state_timestamp").values_list("pk", flat=True)[:BATCH]:
            propose_one(key, state, lambda run: run.state_type == StateType.CANCELLING, forced=False)


def ends_not(run: FlowRun) -> bool:
    return run.state_type not in TERMINAL


def propose_one(
    key: UUID,
    state: ProposedState,
    still: Callable[[FlowRun], bool] = lambda run: True,
    *,
    forced: bool = True,
    of_task: bool = False,
) -> None:
    """Propose a state for one run, if it is `still` as it was found; what fails is logged and does not stop the others."""

    def proposed() -> None:
        if of_task:
            engine.propose_task(key, state, force=forced)
            return
        run = FlowRun.objects.select_for_update(of=("self",)).select_related("state").filter(pk=key).first()
        if run is not None and still(run):
            engine.propose(key, state, force=forced)

    try:
        in_one_transaction(proposed)
    except Missing:
        log.debug("Run %s was deleted meanwhile", key)
    except DatabaseError:
        log.exception("Run %s could not be moved to %s", key, state.name)


class RunRetention(Loop):
    """Deletes top-level runs that ended long ago, where `flow_runs` is asked for, with all that belongs to them.

    Contract: runs_states_orchestration.md, section 6.7. In small transactions, off the hot path.
    """

    name = "run-retention"
    interval_seconds = settings.VACUUM_LOOP.total_seconds()

    def poll(self) -> float:
        if "flow_runs" not in settings.VACUUM_ENABLED:
            return self.interval_seconds
        keys = list(old_runs(timezone.now()).values_list("pk", flat=True)[: settings.VACUUM_BATCH])
        if keys:
            in_one_transaction(lambda: delete_flow_runs(FlowRun.objects.filter(pk__in=keys)))
            log.info("%d runs were older than they are kept for", len(keys))
        return 0 if len(keys) == settings.VACUUM_BATCH else self.interval_seconds


def old_runs(now: datetime) -> QuerySet[FlowRun]:
    """Runs without a parent that ended before the retention period, oldest first."""
    ended = FlowRun.objects.filter(state_type__in=sorted(TERMINAL), end_time__lt=now - settings.RUN_RETENTION)
    return ended.filter(parent_task_run__isnull=True).order_by("end_time")

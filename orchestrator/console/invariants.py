"""What is always true of the tables, whatever was killed when. Each is a query for the rows that break it.

Only reads, in sets; each costs about a look at the rows it speaks of. `manage.py fsck` asks them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Exists, F, IntegerField, Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from deployments.models import DeploymentSchedule
from flowruns.models import FlowRun, FlowRunState, TaskDelivery, TaskRun, TaskRunState
from flowruns.states import HOLDING, TERMINAL, StateType
from orchestrator.concurrency.models import ConcurrencyLimit, Lease
from orchestrator.events.models import Event
from workqueues.models import WorkPool, WorkQueue

# What is being written at this moment is given time to become whole.
SETTLED = timedelta(seconds=10)
# How far back the events of states are looked for; older ones may be gone.
LATELY = timedelta(days=1)


@dataclass(frozen=True)
class Invariant:
    """A sentence that holds, and the rows for which it does not."""

    sentence: str
    broken: Callable[[], QuerySet[Any]]


def settled(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(updated__lt=timezone.now() - SETTLED)


def other_state(runs: QuerySet[Any]) -> QuerySet[Any]:
    """Runs whose columns say another state than the one they point to, or that point to none or another's."""
    same = Q(state__type=F("state_type"), state__name=F("state_name"), state__timestamp=F("state_timestamp"), state__run=F("pk"))
    return runs.exclude(same).exclude(state__isnull=True, state_type__isnull=True)


def not_the_newest(runs: QuerySet[Any], states: type[FlowRunState] | type[TaskRunState]) -> QuerySet[Any]:
    newest = states.objects.filter(run=OuterRef("pk")).order_by().values("run").annotate(at=Max("timestamp")).values("at")
    return runs.annotate(newest=Subquery(newest)).filter(newest__gt=F("state_timestamp"))


def ended_wrongly(runs: QuerySet[Any]) -> QuerySet[Any]:
    ended = Q(state_type__in=sorted(TERMINAL))
    return runs.filter((ended & Q(end_time__isnull=True)) | (~ended & Q(end_time__isnull=False)))


def leased(limit: Any) -> Any:
    held = Lease.objects.filter(limits=limit).order_by().values("limits").annotate(all=Sum("slots")).values("all")
    return Coalesce(Subquery(held, output_field=IntegerField()), 0)


def slots_without_count() -> QuerySet[Any]:
    flat = ConcurrencyLimit.objects.filter(slot_decay_per_second=0, active=True)
    return flat.annotate(leased=leased(OuterRef("pk"))).filter(leased__gt=F("active_slots"))


def leases_of_ended_runs() -> QuerySet[Any]:
    """Leases that no run of a deployment needs: nothing would give them back before they expire."""
    alive = FlowRun.objects.filter(pk=OuterRef("holder_id"), state_type__in=sorted(HOLDING))
    held = Lease.objects.filter(holder_type="flow_run", limits__name__startswith="deployment:")
    return settled(held.filter(~Exists(alive)))


def states_without_events() -> QuerySet[Any]:
    """States of the last day that nobody was told of; what the scheduler plans is told of by nobody."""
    lately = FlowRunState.objects.filter(timestamp__gte=timezone.now() - LATELY)
    planned = Q(run__auto_scheduled=True, type=StateType.SCHEDULED, name="Scheduled", message="Flow run scheduled")
    return lately.exclude(planned).filter(~Exists(Event.objects.filter(id=OuterRef("pk"))))


def runs_of_paused() -> QuerySet[Any]:
    planned = FlowRun.objects.scheduled().filter(auto_scheduled=True, run_count=0, state_name="Scheduled")
    return settled(planned.filter(deployment__paused=True))


def twice_planned() -> QuerySet[Any]:
    found = FlowRun.objects.filter(schedule_identity__isnull=False).order_by()
    groups = found.values("schedule_identity", "expected_start_time").annotate(number=Count("pk"))
    return groups.filter(number__gt=1).values_list("schedule_identity", flat=True)


def shared_priorities() -> QuerySet[Any]:
    groups = WorkQueue.objects.order_by().values("work_pool", "priority").annotate(number=Count("pk"))
    return groups.filter(number__gt=1).values_list("work_pool", flat=True)


INVARIANTS: tuple[Invariant, ...] = (
    Invariant("A flow run's columns are those of its current state.", lambda: other_state(FlowRun.objects.all())),
    Invariant("A task run's columns are those of its current state.", lambda: other_state(TaskRun.objects.all())),
    Invariant("A flow run's current state is its newest.", lambda: not_the_newest(FlowRun.objects.all(), FlowRunState)),
    Invariant("A flow run has ended exactly when it has an end.", lambda: ended_wrongly(FlowRun.objects.all())),
    Invariant(
        "A flow run waits for a time exactly when it is scheduled.",
        lambda: FlowRun.objects.filter(
            Q(state_type=StateType.SCHEDULED, next_scheduled_start_time__isnull=True)
            | (~Q(state_type=StateType.SCHEDULED) & Q(next_scheduled_start_time__isnull=False))
        ),
    ),
    Invariant("One run was made for each time of a schedule.", twice_planned),
    Invariant("A paused deployment has no planned runs.", runs_of_paused),
    Invariant("Every state of a flow run left an event.", states_without_events),
    Invariant("A limit counts at least the slots that leases hold.", slots_without_count),
    Invariant("A slot of a deployment is held by a run that is on its way.", leases_of_ended_runs),
    Invariant(
        "A task that waits for a task worker is scheduled.",
        lambda: settled(TaskDelivery.objects.exclude(run__state_type__in=(StateType.SCHEDULED, StateType.PENDING))),
    ),
    Invariant(
        "A schedule that plans is of a deployment that is there.",
        lambda: DeploymentSchedule.objects.filter(deployment__isnull=True),
    ),
    Invariant(
        "A pool's default queue is one of its own.",
        lambda: WorkPool.objects.exclude(default_queue__work_pool=F("pk")).exclude(default_queue__isnull=True),
    ),
    Invariant("Queues of a pool have priorities of their own.", shared_priorities),
)

"""How flows and runs come to be: create, or get what is there (contract: conventions.md, section 3)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.utils import timezone

from flowruns import deliveries
from flowruns.events import emit_state
from flowruns.models import Flow, FlowRun, TaskRun
from flowruns.orchestration import engine
from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType
from orchestrator.core.prepared import insert

PENDING = ProposedState(type=StateType.PENDING)


def create_flow(name: str, tags: list[str], labels: dict[str, Any]) -> tuple[UUID, bool]:
    """The id of the flow of this name, and whether it was made now. One that exists is left unchanged."""
    found = Flow.objects.filter(name=name).values_list("id", flat=True).first()
    if found:
        return found, False
    flow = Flow(name=name, tags=tags, labels=labels)
    Flow.objects.bulk_create([flow], ignore_conflicts=True)
    key = Flow.objects.values_list("id", flat=True).get(name=name)
    return key, key == flow.id


def create_flow_run(*, flow_id: UUID, state: ProposedState | None, values: dict[str, Any]) -> tuple[UUID, bool]:
    """The id of a flow run with these columns, and whether it was made now.

    A run of the same flow and idempotency key is returned as it is. Raises IntegrityError for an unknown flow or parent.
    """
    key = values.get("idempotency_key")
    if key is not None and (existing := _existing(flow_id, key)):
        return existing, False
    now = timezone.now()
    values = {name: value for name, value in values.items() if not (name == "name" and not value)}
    run = FlowRun(id=uuid4(), flow_id=flow_id, created=now, updated=now, **values)
    initial = engine.initial_state(run, state or PENDING)
    try:
        with transaction.atomic():
            insert(run)
            insert(initial)
            emit_state(run, initial, None, initial.type)
            engine.lead_parent(run, state or PENDING)
    except IntegrityError:
        # Somebody else made the run of this key since we looked; anything else is the caller's mistake.
        if key is not None and (existing := _existing(flow_id, key)):
            return existing, False
        raise
    return run.id, True


def _existing(flow_id: UUID, key: str) -> UUID | None:
    return FlowRun.objects.filter(flow_id=flow_id, idempotency_key=key).values_list("id", flat=True).first()


def create_task_run(*, state: ProposedState | None, values: dict[str, Any]) -> tuple[UUID, bool]:
    """The id of the task run of this flow run, task key and dynamic key, and whether it was made now."""
    identity = {name: values.get(name) for name in ("flow_run_id", "task_key", "dynamic_key")}
    existing = TaskRun.objects.filter(**identity).values_list("id", flat=True).first()
    if existing:
        return existing, False
    now = timezone.now()
    values = {name: value for name, value in values.items() if not (name == "name" and not value)}
    run = TaskRun(**{"id": uuid4(), "created": now, "updated": now, **values})
    initial = engine.initial_state(run, state or PENDING)
    try:
        with transaction.atomic():
            insert(run)
            insert(initial)
            if state and state.type == StateType.SCHEDULED and state.details.get("deferred"):
                deliveries.offer(run, again=state.name == "AwaitingRetry")
    except IntegrityError:
        existing = TaskRun.objects.filter(**identity).values_list("id", flat=True).first()
        if existing is None:
            raise
        return existing, False
    return run.id, True

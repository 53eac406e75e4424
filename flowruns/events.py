"""The event that tells of a flow run's new state. Contract: events_automations.md, section 6."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from flowruns.models import FlowRun, FlowRunState
from orchestrator.core.prepared import Prepared
from orchestrator.events.recording import Labels, emit

MAX_MESSAGE = 100_000
# An event follows the one before it if that is not longer ago; readers hold back what follows an event they lack.
FOLLOWS_WITHIN = timedelta(minutes=5)
CREATORS = {"DEPLOYMENT": "prefect.deployment", "AUTOMATION": "prefect.automation"}

SURROUNDINGS = Prepared(
    lambda key: (
        FlowRun.objects.select_related("flow", "deployment", "work_queue__work_pool", "parent_task_run")
        .only(
            "flow__name",
            "flow__tags",
            "deployment__name",
            "deployment__tags",
            "work_queue__name",
            "work_queue__work_pool__name",
            "work_queue__work_pool__type",
            "parent_task_run__name",
            "parent_task_run__tags",
        )
        .filter(pk=key)
    ),
    UUID,
)


def emit_state(run: FlowRun, state: FlowRunState, before: FlowRunState | None, intended: str) -> None:
    """Tell that `run` entered `state`, where `intended` is the type that was proposed.

    The event's id is the state's, so that the two are one fact.
    """
    follows = before.pk if before and state.timestamp - before.timestamp <= FOLLOWS_WITHIN else None
    emit(
        id=state.pk,
        event=f"prefect.flow-run.{state.name}",
        occurred=state.timestamp,
        resource={
            "prefect.resource.id": f"prefect.flow-run.{run.pk}",
            "prefect.resource.name": run.name,
            "prefect.run-count": str(run.run_count),
            "prefect.state-message": (state.message or "")[:MAX_MESSAGE],
            "prefect.state-name": state.name,
            "prefect.state-timestamp": state.timestamp.isoformat(),
            "prefect.state-type": state.type,
        },
        related=related_to(run),
        payload={
            "intended": {"from": before.type if before else None, "to": intended},
            "initial_state": told(before) if before else None,
            "validated_state": told(state),
        },
        follows=follows,
    )


def told(state: FlowRunState) -> dict[str, str]:
    values = {"type": state.type, "name": state.name}
    if state.message:
        values["message"] = state.message[:MAX_MESSAGE]
    if state.type == "PAUSED":
        values["pause_reschedule"] = str(bool(state.details.get("pause_reschedule"))).lower()
    return values


def related_to(run: FlowRun) -> list[Labels]:
    """What a run belongs to: its flow, deployment, queue, pool, parent, tags and creator. One query."""
    around: Any = SURROUNDINGS.first(run.pk)
    if around is None:
        return []
    flow, deployment, queue, parent = around.flow, around.deployment, around.work_queue, around.parent_task_run
    related = [resource("flow", flow.pk, flow.name)]
    tags = {*run.tags, *flow.tags}
    if deployment:
        related.append(resource("deployment", deployment.pk, deployment.name))
        tags |= set(deployment.tags)
    if queue:
        pool = queue.work_pool
        related.append(resource("work-queue", queue.pk, queue.name))
        related.append(resource("work-pool", pool.pk, pool.name) | {"prefect.work-pool.type": pool.type})
    if parent:
        related.append(resource("task-run", parent.pk, parent.name))
        tags |= set(parent.tags)
    related += [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in sorted(tags)]
    return related + creator_of(run)


def resource(kind: str, key: UUID, name: str) -> Labels:
    return {
        "prefect.resource.id": f"prefect.{kind}.{key}",
        "prefect.resource.role": kind,
        "prefect.resource.name": name,
    }


def creator_of(run: FlowRun) -> list[Labels]:
    creator = run.created_by or {}
    if not (kind := CREATORS.get(creator.get("type", ""))):
        return []
    labels = {"prefect.resource.id": f"{kind}.{creator['id']}", "prefect.resource.role": "creator"}
    if name := creator.get("display_value"):
        labels["prefect.resource.name"] = name
    return [labels]

"""Making and changing automations, each in the caller's transaction, with the event that tells of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone

from deployments.running import check_job_variables, runnable
from orchestrator.automations import parameters
from orchestrator.automations.models import Automation, Bucket, Firing
from orchestrator.automations.schemas import AutomationCore, AutomationCreate, RunDeployment
from orchestrator.core.errors import NotFound, Unprocessable
from orchestrator.core.identifiers import time_ordered
from orchestrator.events.recording import emit

WRITTEN = ("name", "description", "enabled", "tags", "trigger", "actions", "actions_on_trigger", "actions_on_resolve")


def create(body: AutomationCreate) -> Automation:
    check_actions(body)
    automation = Automation(owner_resource=body.owner_resource, **columns(body, set(WRITTEN)))
    automation.save(force_insert=True)
    tell(automation, "created")
    return automation


def update(automation: Automation, body: AutomationCore) -> None:
    """Write what the body names. Its triggers are new ones: what the old ones counted is forgotten."""
    check_actions(body)
    changes = columns(body, body.model_fields_set)
    for name, value in changes.items():
        setattr(automation, name, value)
    automation.save(update_fields=[*changes])
    Bucket.objects.filter(automation=automation).delete()
    Firing.objects.filter(automation=automation).delete()
    tell(automation, "updated")


def switch(automation: Automation, enabled: bool) -> None:
    """Turn it on or off. Raises pydantic's ValidationError for one that may not be turned on."""
    if enabled:
        AutomationCore.model_validate({name: getattr(automation, name) for name in WRITTEN} | {"enabled": True})
    if automation.enabled != enabled:
        automation.enabled = enabled
        automation.save(update_fields=["enabled"])
        tell(automation, "updated")


def delete(automation: Automation) -> None:
    tell(automation, "deleted")
    automation.delete()


def columns(body: AutomationCore, names: set[str]) -> dict[str, Any]:
    values = body.model_copy(update={"trigger": body.trigger.renewed()}).model_dump(mode="json")
    return {name: values[name] for name in WRITTEN if name in names}


def check_actions(body: AutomationCore) -> None:
    """Refuse runs of deployments that are not there, or with values that cannot be."""
    for action in (*body.actions, *body.actions_on_trigger, *body.actions_on_resolve):
        if not isinstance(action, RunDeployment):
            continue
        parameters.check(action.parameters or {})
        if action.deployment_id and action.job_variables:
            try:
                deployment = runnable(action.deployment_id)
            except NotFound:
                raise NotFound("Deployment not found.") from None
            try:
                check_job_variables(deployment, action.job_variables, prefix="")
            except Unprocessable as error:
                raise Unprocessable(f"Error creating automation: {error.detail}") from None


def running(deployment_id: str) -> list[UUID]:
    """The automations with an action that runs this deployment."""
    found = Automation.objects.order_by().values_list("pk", "actions", "actions_on_trigger", "actions_on_resolve")
    return [key for key, *lists in found if any(runs(action, deployment_id) for one in lists for action in one)]


def runs(action: dict[str, Any], deployment_id: str) -> bool:
    return action.get("type") == "run-deployment" and action.get("deployment_id") == deployment_id


def tell(automation: Automation, what: str) -> None:
    shown = {name: getattr(automation, name) for name in ("id", "created", "updated", *WRITTEN)}
    emit(
        id=time_ordered(),
        event=f"prefect.automation.{what}",
        occurred=timezone.now(),
        resource={"prefect.resource.id": f"prefect.automation.{automation.pk}", "prefect.resource.name": automation.name},
        payload={name: value if name in WRITTEN else str(value) for name, value in shown.items()},
    )

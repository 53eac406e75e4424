"""What automations do, through the same doors as the API. Contract: events_automations.md, section 9."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from deployments import registration as deployments
from deployments.hydration import HydrationError, hydrate, rendered
from deployments.running import create_run, runnable
from deployments.schemas import DeploymentFlowRunCreate
from flowruns import inputs
from flowruns.models import FlowRun
from flowruns.orchestration import engine
from flowruns.orchestration.proposal import ProposedState, iso
from flowruns.orchestration.verdicts import Outcome
from flowruns.removal import delete_flow_runs
from flowruns.states import StateType
from orchestrator.automations import calls, registration
from orchestrator.automations.context import ID, context_of, identified
from orchestrator.automations.models import Automation, PendingAction
from orchestrator.automations.parameters import upgraded
from orchestrator.automations.schemas import (
    AnyAction,
    CallWebhook,
    ChangeFlowRunState,
    FlowRunAction,
    RunDeployment,
    SendNotification,
    SwitchAutomation,
    SwitchDeployment,
    SwitchWorkPool,
    SwitchWorkQueue,
    Targeted,
)
from orchestrator.blocks import documents
from orchestrator.blocks.models import BlockDocument, Variable
from orchestrator.core.errors import InvalidRequest, WireError
from workqueues import registration as queues
from workqueues.models import WorkPool, WorkQueue

ACTION: TypeAdapter[Any] = TypeAdapter(AnyAction)
SUSPENDED_FOR = timedelta(hours=1)
SHOWN_BYTES = 1_000

Labels = dict[str, str]


class ActionFailed(Exception):
    """The action could not be done; the text says why."""

    def __init__(self, reason: str, **details: Any) -> None:
        super().__init__(reason)
        self.details = details


@dataclass
class Done:
    """What an action touched, and what else there is to tell of it."""

    related: list[Labels] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Doing:
    """An action about to be done."""

    automation: Automation
    firing: dict[str, Any]
    action: Any
    invocation: UUID
    place: int

    @property
    def event(self) -> Any:
        return self.firing["event"]

    def target(self, kind: str) -> UUID:
        """The id of what the action is done to. Raises ActionFailed when the event tells of none."""
        if isinstance(self.action, Targeted) and self.action.target_id:
            return self.action.target_id
        if self.event is None:
            raise ActionFailed(f"No event to infer the {kind.replace('-', ' ')}")
        key = self.flow_run_of_labels() if kind == "flow-run" else None
        key = key or identified(self.event, kind)
        if key is None:
            raise ActionFailed(f"No {kind.replace('-', ' ')} could be inferred")
        return key

    def flow_run_of_labels(self) -> UUID | None:
        prefix, _, key = self.firing["labels"].get(ID, "").rpartition(".")
        return UUID(key) if prefix == "prefect.flow-run" else None

    def context(self, text: str) -> dict[str, Any]:
        return context_of(self.automation, self.firing, text)

    def text(self, template: str) -> str:
        try:
            return str(rendered(template, self.context(template)))
        except HydrationError as error:
            raise ActionFailed(
                f"Template rendering failed: {error}", template_error=str(error), template_source=template
            ) from None


def resource(kind: str, key: Any, role: str) -> Labels:
    return {"prefect.resource.id": f"prefect.{kind}.{key}", "prefect.resource.role": role}


def do_nothing(doing: Doing) -> Done:
    return Done()


def run_deployment(doing: Doing) -> Done:
    action: RunDeployment = doing.action
    key = doing.target("deployment")
    given = upgraded(action.parameters or {})
    try:
        parameters = hydrate(given, lambda: dict(Variable.objects.values_list("name", "value")), doing.context(json.dumps(given)))
    except HydrationError as error:
        raise ActionFailed(f"Template rendering failed: {error}", template_error=str(error)) from None
    at = datetime.now(UTC) + timedelta(seconds=action.schedule_after)
    body = DeploymentFlowRunCreate.model_validate(
        {
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": iso(at)}},
            "parameters": parameters,
            "job_variables": action.job_variables or {},
            "idempotency_key": (f"automation {doing.automation.pk}, action {doing.place}, invocation {doing.invocation}"),
        }
    )
    creator = {"id": str(doing.automation.pk), "type": "AUTOMATION", "display_value": doing.automation.name}
    run, _ = create_run(runnable(key), body, created_by=creator)
    return Done([resource("deployment", key, "target"), resource("flow-run", run, "flow-run")])


def switch_deployment(doing: Doing) -> Done:
    key = doing.target("deployment")
    (deployments.pause if doing.action.type == "pause-deployment" else deployments.resume)(key)
    return Done([resource("deployment", key, "target")])


def switch_work_queue(doing: Doing) -> Done:
    key = doing.target("work-queue")
    queue = WorkQueue.objects.select_for_update().filter(pk=key).first()
    if queue is None:
        raise ActionFailed("Unexpected status from 'pause-work-queue' action: 404")
    queues.update_queue(queue, {"is_paused": doing.action.type == "pause-work-queue"}, make_room=False)
    return Done([resource("work-queue", key, "target")])


def switch_work_pool(doing: Doing) -> Done:
    key = doing.target("work-pool")
    pool = WorkPool.objects.select_for_update().filter(pk=key).first()
    if pool is None:
        raise ActionFailed("Unexpected status from 'pause-work-pool' action: 404")
    queues.update_pool(pool, {"is_paused": doing.action.type == "pause-work-pool"})
    return Done([resource("work-pool", key, "target")])


def switch_automation(doing: Doing) -> Done:
    key = doing.target("automation")
    found = Automation.objects.select_for_update().filter(pk=key).first()
    if found is None:
        raise ActionFailed(f"Unexpected status from '{doing.action.type}' action: 404")
    registration.switch(found, doing.action.type == "resume-automation")
    return Done([resource("automation", key, "target")])


def settle(doing: Doing, outcome: Outcome, key: UUID) -> Done:
    if outcome.status != "ACCEPT" and not outcome.written:
        raise ActionFailed(f"Failed to set state: {outcome.details.get('reason', outcome.status)}")
    return Done([resource("flow-run", key, "target")])


def act_on_flow_run(doing: Doing) -> Done:
    action: FlowRunAction = doing.action
    key = doing.target("flow-run")
    match action.type:
        case "delete-flow-run":
            engine.release_slots(FlowRun.objects.filter(pk=key))
            if not delete_flow_runs(FlowRun.objects.filter(pk=key)):
                raise ActionFailed(f"Unexpected status from '{action.type}' action: 404")
            return Done([resource("flow-run", key, "target")])
        case "resume-flow-run":
            return settle(doing, inputs.resume(key, None), key)
        case "suspend-flow-run":
            details = {"pause_reschedule": True, "pause_timeout": iso(datetime.now(UTC) + SUSPENDED_FOR)}
            state = ProposedState(
                StateType.PAUSED, "Suspended", f"Suspended by Automation {doing.automation.pk}", details=details
            )
        case _:
            state = ProposedState(StateType.CANCELLING, message=f"Cancelled by Automation {doing.automation.pk}")
    return settle(doing, engine.propose(key, state), key)


def change_flow_run_state(doing: Doing) -> Done:
    action: ChangeFlowRunState = doing.action
    key = doing.target("flow-run")
    message = action.message or f"State changed by Automation {doing.automation.pk}"
    state = ProposedState(action.state, action.name or "", message)
    return settle(doing, engine.propose(key, state, force=action.force), key)


def block(key: UUID) -> tuple[BlockDocument, dict[str, Any]]:
    """A block with its whole data, secrets included. Raises ActionFailed for one that is not there."""
    document = BlockDocument.objects.select_related("block_schema__block_type", "block_type").filter(pk=key).first()
    if document is None:
        raise ActionFailed(f"Block document {key} not found")
    (shown,) = documents.shapes([document], include_secrets=True)
    return document, shown["data"]


def block_resources(document: BlockDocument) -> list[Labels]:
    named = {"prefect.resource.name": document.name}
    return [
        resource("block-document", document.pk, "block") | named,
        resource("block-type", document.block_type_id, "block-type") | {"prefect.resource.name": document.block_type.slug},
    ]


def call_webhook(doing: Doing) -> Done:
    action: CallWebhook = doing.action
    document, data = block(action.block_document_id)
    payload = doing.text(action.payload) if action.payload else action.payload
    try:
        content = json.loads(payload) if payload else payload
    except json.JSONDecodeError:
        content = payload
    try:
        answer = calls.webhook(data, content)
    except calls.Refused as error:
        raise ActionFailed(f"Webhook call failed: {error}") from None
    details = {
        "status_code": answer.status,
        "response_body": answer.body[:SHOWN_BYTES],
        "response_headers": answer.headers,
    }
    return Done(block_resources(document), details)


def send_notification(doing: Doing) -> Done:
    action: SendNotification = doing.action
    document, data = block(action.block_document_id)
    if "notify" not in document.block_schema.capabilities:
        raise ActionFailed(f"Block document {document.pk} is not one for notifications")
    subject, body = doing.text(action.subject), doing.text(action.body)
    try:
        calls.notify(document.block_type.slug, data, subject, body)
    except calls.Refused as error:
        raise ActionFailed(f"Notification failed: {error}") from None
    return Done(block_resources(document))


Perform = Callable[[Doing], Done]

PERFORM: dict[type, Perform] = {
    RunDeployment: run_deployment,
    SwitchDeployment: switch_deployment,
    SwitchWorkQueue: switch_work_queue,
    SwitchWorkPool: switch_work_pool,
    SwitchAutomation: switch_automation,
    FlowRunAction: act_on_flow_run,
    ChangeFlowRunState: change_flow_run_state,
    SendNotification: send_notification,
    CallWebhook: call_webhook,
}
# Actions that speak with the world outside: no transaction waits for it.
OUTSIDE = (SendNotification, CallWebhook)


def doing(row: PendingAction) -> Doing:
    return Doing(row.automation, row.firing, ACTION.validate_python(row.action), row.pk, row.place)


def perform(of: Doing) -> Done:
    """Do it. Raises ActionFailed with the reason that the automation's event tells."""
    try:
        return PERFORM.get(type(of.action), do_nothing)(of)
    except WireError as error:
        if error.status in {409, 422}:
            raise ActionFailed(f"Validation error occurred for '{of.action.type}' - {error.detail}") from None
        raise ActionFailed(f"Unexpected status from '{of.action.type}' action: {error.status}") from None
    except InvalidRequest as error:
        raise ActionFailed(f"Validation error occurred for '{of.action.type}' - {error}") from None

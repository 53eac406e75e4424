"""Resuming a paused run, with what its flow asked for (contract: runs_states_orchestration.md, section 2.2)."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.apps import apps

from flowruns.models import FlowRun, FlowRunInput
from flowruns.orchestration import engine
from flowruns.orchestration.proposal import ProposedState
from flowruns.orchestration.verdicts import Outcome
from flowruns.states import StateType
from orchestrator.core import json_body
from orchestrator.core.errors import Missing, WireError
from orchestrator.core.json_schema import CircularSchemaReference, InvalidSchema, SchemaViolation, validate


class Unfit(Exception):
    """The input is not what the flow asked for; the text says why."""


def resume(run_id: UUID, given: dict[str, Any] | None, user_agent: str = "") -> Outcome:
    """Propose that a paused run goes on; its input is kept for it. Raises Missing. Joins the caller's transaction."""
    run = FlowRun.objects.select_for_update(of=("self",)).select_related("state").filter(pk=run_id).first()
    if run is None:
        raise Missing(f"Flow run with id {run_id} not found")
    if run.state is None or run.state.type != StateType.PAUSED:
        return refusal("ABORT", None, "Cannot resume a flow run that is not paused.")
    details = run.state.details
    keyset = details.get("run_input_keyset")
    answer = given or {}
    if keyset:
        try:
            answer = checked(run_id, keyset, answer)
        except Unfit as error:
            return refusal("REJECT", engine.wire(run.state), str(error))
    again = (
        ProposedState(StateType.SCHEDULED, "Resuming") if details.get("pause_reschedule") else ProposedState(StateType.RUNNING)
    )
    outcome = engine.propose(run_id, again, user_agent=user_agent)
    if keyset and answer and outcome.status == "ACCEPT":
        value = json_body.dump(answer).decode()
        FlowRunInput.objects.create(flow_run_id=run_id, key=keyset["response"], value=value)
    return outcome


def refusal(status: str, state: dict[str, Any] | None, reason: str) -> Outcome:
    return Outcome(status, state, {"type": "abort_details", "reason": reason}, written=False)


def checked(run_id: UUID, keyset: dict[str, str], given: dict[str, Any]) -> dict[str, Any]:
    """The input with its placeholders filled, if it fits the schema that the flow left behind. Raises Unfit."""
    try:
        filled = apps.get_app_config("deployments").hydrated_input(given)  # type: ignore[attr-defined]
    except WireError as error:
        raise Unfit(f"Error hydrating run input: {error.detail}") from None
    schema = FlowRunInput.objects.filter(flow_run=run_id, key=keyset.get("schema", "")).values_list("value", flat=True).first()
    if schema is None:
        raise Unfit("Run input schema not found.")
    try:
        validate(filled, json.loads(schema))
    except (json.JSONDecodeError, RecursionError):
        raise Unfit("Run input schema is not valid JSON.") from None
    except (SchemaViolation, InvalidSchema) as error:
        raise Unfit(f"Reason: {error}") from None
    except CircularSchemaReference as error:
        raise Unfit(str(error)) from None
    return dict(filled)

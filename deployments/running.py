"""Runs from deployments: parameters, job variables, queue (contract: flows_deployments.md, section 7.1 and 7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from deployments.hydration import HydrationError, hydrate, placeholders_in
from deployments.models import Deployment
from deployments.schemas import DeploymentFlowRunCreate
from flowruns.orchestration.proposal import ProposedState
from flowruns.registration import create_flow_run
from flowruns.schemas import wire_text
from flowruns.states import StateType
from orchestrator.blocks.models import Variable
from orchestrator.core.errors import INTEGRITY, BadRequest, Conflict, NotFound, Unprocessable, WireError
from orchestrator.core.json_schema import CircularSchemaReference, InvalidSchema, SchemaViolation, validate
from orchestrator.core.prepared import Prepared
from workqueues import job_variables
from workqueues.models import WorkQueue
from workqueues.registration import queue_in_pool

Values = dict[str, Any]

NEEDED = (
    "flow_id",
    "version",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "job_variables",
    "tags",
    "labels",
    "work_queue_id",
    "work_queue_name",
    "infrastructure_document_id",
    "work_queue__name",
    "work_queue__work_pool__name",
    "work_queue__work_pool__base_job_template",
)


RUNNABLE = Prepared(lambda key: Deployment.objects.select_related("work_queue__work_pool").only(*NEEDED).filter(pk=key), UUID)


@dataclass(frozen=True)
class Wording:
    """How a refusal reads; the single and the bulk route word the same refusals differently."""

    hydration: str
    no_schema: str
    violation: str
    circular: str
    no_pool: str


NO_SCHEMA = (
    "Error updating deployment: Cannot update parameters because parameter schema enforcement is enabled and the "
    "deployment does not have a valid parameter schema."
)
CIRCULAR = "Invalid schema: Unable to validate schema with circular references."
ONE_RUN = Wording(
    hydration="Error hydrating flow run parameters: ",
    no_schema=NO_SCHEMA,
    violation="Error creating flow run: ",
    circular=CIRCULAR,
    no_pool=(
        "Cannot create flow run in work queue {queue} because deployment {deployment} is not associated with "
        "a work pool. Please remove work_pool_name and try again."
    ),
)
BULK_RUNS = Wording(
    hydration="",
    no_schema="Parameter schema enforcement is enabled but deployment has no valid schema.",
    violation="Parameter validation failed: ",
    circular="Invalid schema: circular references detected.",
    no_pool="Cannot create flow run in work queue {queue} because deployment is not associated with a work pool.",
)
UPDATE = Wording(
    hydration="Error hydrating deployment parameters: ",
    no_schema=NO_SCHEMA,
    violation="Error updating deployment: ",
    circular=CIRCULAR,
    no_pool="",
)


def runnable(key: UUID) -> Deployment:
    """The deployment with what a run takes from it, queue and pool included; one query."""
    deployment = RUNNABLE.first(key)
    if deployment is None:
        raise NotFound("Deployment not found")
    return deployment


def create_run(
    deployment: Deployment, body: DeploymentFlowRunCreate, *, created_by: Values | None, wording: Wording = ONE_RUN
) -> tuple[UUID, bool]:
    """The id of the run, and whether it was made now. The deployment itself is never written.

    A run of the same flow and idempotency key is returned as it is. The deployment's pause holds schedules, not this.
    """
    parameters = hydrated(deployment.parameters | body.parameters, wording)
    enforced = body.enforce_parameter_schema
    if deployment.enforce_parameter_schema if enforced is None else enforced:
        check_parameters(parameters, deployment.parameter_openapi_schema, wording)
    check_job_variables(deployment, body.job_variables, prefix="Error creating flow run: ")
    state = body.state.proposed() if body.state else _scheduled_now()
    values = _values(deployment, body) | _queue(deployment, body.work_queue_name, wording)
    values |= {"parameters": parameters, "created_by": created_by}
    return create_flow_run(flow_id=deployment.flow_id, state=state, values=values)


def run_now(key: UUID) -> UUID:
    """The id of a new run with the deployment's own parameters."""
    return create_run(runnable(key), DeploymentFlowRunCreate(), created_by=None)[0]


def create_runs(deployment: Deployment, bodies: Sequence[DeploymentFlowRunCreate], *, created_by: Values | None) -> list[Values]:
    """The outcome of each item, in order. One that is refused leaves nothing behind and does not affect the others."""
    return [_outcome(deployment, body, created_by) for body in bodies]


def _outcome(deployment: Deployment, body: DeploymentFlowRunCreate, created_by: Values | None) -> Values:
    try:
        with transaction.atomic():
            key, _ = create_run(deployment, body, created_by=created_by, wording=BULK_RUNS)
    except WireError as error:
        return {"flow_run_id": None, "status": "FAILED", "error": error.detail}
    except (IntegrityError, DataError):
        return {"flow_run_id": None, "status": "FAILED", "error": INTEGRITY}
    return {"flow_run_id": key, "status": "CREATED", "error": None}


def hydrated(parameters: Values, wording: Wording) -> Values:
    """The parameters with their placeholders filled. Variables are read only where something may ask for them."""
    if not placeholders_in(parameters):
        return parameters
    try:
        return hydrate(parameters, lambda: dict(Variable.objects.values_list("name", "value")))
    except HydrationError as error:
        raise BadRequest(f"{wording.hydration}{error}") from None


def check_parameters(parameters: Values, schema: Any, wording: Wording, *, ignore_required: bool = False) -> None:
    """Refuse parameters that do not fit the schema: 409; a schema that is none: 409 or 422."""
    if not isinstance(schema, dict):
        raise Conflict(wording.no_schema)
    try:
        validate(parameters, schema, ignore_required=ignore_required)
    except SchemaViolation as error:
        raise Conflict(f"{wording.violation}{error}") from None
    except CircularSchemaReference:
        raise Unprocessable(wording.circular) from None
    except InvalidSchema as error:
        raise Unprocessable(f"Invalid schema: {error}") from None


def check_job_variables(deployment: Deployment, variables: Values, *, prefix: str) -> None:
    """Refuse job variables of a run that, over the deployment's and the pool's, do not fit the pool's template."""
    if deployment.work_queue is None:
        return
    pool = deployment.work_queue.work_pool
    try:
        job_variables.validate_for_run(pool.base_job_template, deployment.job_variables, variables)
    except SchemaViolation as error:
        raise Unprocessable(f"{prefix}{error}") from None
    except InvalidSchema as error:
        raise Unprocessable(f"Invalid schema: {error}") from None
    except CircularSchemaReference:
        raise Unprocessable(CIRCULAR) from None
    except job_variables.BlockNotFound:
        raise NotFound("Block not found.") from None


def _scheduled_now() -> ProposedState:
    details = {"scheduled_time": wire_text(timezone.now())}
    return ProposedState(type=StateType.SCHEDULED, name="Scheduled", details=details)


def _values(deployment: Deployment, body: DeploymentFlowRunCreate) -> Values:
    values = body.model_dump(include={"name", "context", "parent_task_run_id", "idempotency_key", "job_variables"})
    system = {"prefect.flow.id": str(deployment.flow_id), "prefect.deployment.id": str(deployment.id)}
    return values | {
        "deployment_id": deployment.id,
        "deployment_version": deployment.version,
        "empirical_policy": body.empirical_policy.of_flow_run(),
        "infrastructure_document_id": body.infrastructure_document_id or deployment.infrastructure_document_id,
        "labels": deployment.labels | system | (body.labels or {}),
        "tags": list(dict.fromkeys([*deployment.tags, *body.tags])),
    }


def _queue(deployment: Deployment, name: str | None, wording: Wording) -> Values:
    """The deployment's queue, or the one of this name in its pool, made where it is missing."""
    if not name:
        return {"work_queue_id": deployment.work_queue_id, "work_queue_name": deployment.work_queue_name}
    if deployment.work_queue is None:
        raise BadRequest(wording.no_pool.format(queue=name, deployment=deployment.id))
    queue: WorkQueue = queue_in_pool(deployment.work_queue.work_pool, name, create=True)
    return {"work_queue_id": queue.pk, "work_queue_name": name}

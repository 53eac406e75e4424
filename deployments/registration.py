"""Create, change and delete deployments with their schedules and limit, each in the caller's transaction.

The deployment's row is locked before anything else is written, and the scheduler locks the same row before it
inserts: a run planned from what is no longer so is either purged here or never inserted.

Contract: flows_deployments.md, sections 3, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.utils import timezone

from deployments import scheduling
from deployments.models import Deployment, DeploymentSchedule
from deployments.running import UPDATE, check_parameters, hydrated
from deployments.schedule_plans import SchedulePlan, UnclearSchedules, plan_schedules
from deployments.schedule_rows import add_schedules, apply_plan
from deployments.schemas import DeploymentBase, DeploymentCreate, DeploymentUpdate
from flowruns.models import Flow, FlowRun
from flowruns.removal import delete_flow_runs, delete_rows
from orchestrator.blocks.models import BlockDocument
from orchestrator.concurrency.models import ConcurrencyLimit
from orchestrator.core import prepared
from orchestrator.core.errors import INTEGRITY, Conflict, NotFound, Unprocessable
from orchestrator.core.json_schema import CircularSchemaReference, InvalidSchema, SchemaViolation, validate
from orchestrator.core.prepared import Prepared
from workqueues import job_variables
from workqueues.models import WorkPool
from workqueues.models.pools import AGENT_POOL
from workqueues.registration import resolve

Values = dict[str, Any]

# Keys of a body that are columns as they are.
COLUMNS = frozenset(
    {
        "paused",
        "enforce_parameter_schema",
        "parameters",
        "parameter_openapi_schema",
        "tags",
        "pull_steps",
        "work_queue_name",
        "storage_document_id",
        "infrastructure_document_id",
        "description",
        "path",
        "version",
        "entrypoint",
        "job_variables",
    }
)
MISSING_LIMIT = "Concurrency limit not found"
NAMED = Prepared(
    lambda flow, name: (
        Deployment.objects.select_for_update().only("concurrency_limit_id", "schedule_revision").filter(flow=flow, name=name)
    ),
    UUID,
    str,
)
FLOW = Prepared(lambda key: Flow.objects.filter(pk=key), UUID)
SCHEDULES = Prepared(lambda key: DeploymentSchedule.objects.filter(deployment=key), UUID)


def register(body: DeploymentCreate, *, created_by: Values | None, updated_by: Values | None) -> tuple[UUID, bool]:
    """The id of the deployment of this flow and name, made or overwritten by `body`; and whether it was made now.

    What the body leaves out stays, but for parameters, schedules and labels, which a create always states.
    """
    existing = NAMED.first(body.flow_id, body.name)
    values = _columns(body) | {"parameters": body.parameters, "updated_by": updated_by}
    if body.work_pool_name and body.work_pool_name != AGENT_POOL and body.job_variables:
        _check_job_variables(body.work_pool_name, body.job_variables)
    values |= _queue(body)
    _check_limit(body)
    _check_block(body.infrastructure_document_id, "infrastructure")
    _check_block(body.storage_document_id, "storage")
    values["labels"] = _labels(body)
    if existing is None:
        key = uuid4()
        try:
            with transaction.atomic():
                _insert(key, body, values | {"created_by": created_by})
        except IntegrityError:
            # Somebody else made it since we looked; anything else is the caller's mistake.
            existing = NAMED.first(body.flow_id, body.name)
            if existing is None:
                raise
        else:
            return key, True
    _overwrite(existing, body, values)
    return existing.id, False


def update(key: UUID, body: DeploymentUpdate, *, updated_by: Values | None) -> None:
    """Write what `body` names to the deployment. Raises NotFound, and what the contract's table lists."""
    deployment = locked(key, missing="Deployment not found.")
    existing = list(deployment.schedules.all()) if "schedules" in body.model_fields_set else []
    plan = _planned(existing, body)
    values = _columns(body)
    if values.get("job_variables", {}) is None:
        del values["job_variables"]
    if body.work_pool_name and body.job_variables:
        _check_changed_job_variables(body.work_pool_name, body.job_variables)
    if body.parameters is not None:
        values["parameters"] = hydrated(body.parameters, UPDATE)
    _check_parameters(deployment, body, values.get("parameters"))
    _check_limit(body)
    values |= _queue(body)
    if "work_pool_name" in body.model_fields_set and body.work_pool_name is None:
        values["work_queue_id"] = None
    if not body.model_fields_set:
        return
    values |= _bound_limit(deployment, body)
    _write(deployment, values | {"updated_by": updated_by})
    apply_plan(deployment.id, existing, plan)
    forget_planned_runs(deployment)


def pause(key: UUID) -> None:
    """Hold the schedules of a deployment. No planned run is left, not even a late one; manual runs stay."""
    forget_planned_runs(_switched(key, paused=True), past_due=True)


def resume(key: UUID) -> None:
    """Let the schedules of a deployment plan again; the scheduler does so at its next look."""
    scheduling.invalidate(_switched(key, paused=False))


def _switched(key: UUID, *, paused: bool) -> Deployment:
    deployment = locked(key, missing="Deployment not found")
    if deployment.paused != paused:
        _write(deployment, {"paused": paused})
    return deployment


def locked(key: UUID, *, missing: str) -> Deployment:
    """The deployment, locked until the transaction ends. Raises NotFound(missing)."""
    deployment = Deployment.objects.select_for_update().filter(pk=key).first()
    if deployment is None:
        raise NotFound(missing)
    return deployment


def forget_planned_runs(deployment: Deployment, *, past_due: bool = False) -> None:
    """Delete what was planned from the deployment as it was, and let the scheduler plan anew."""
    scheduling.invalidate(deployment)
    scheduling.purge(deployment.id, past_due=past_due)


def _columns(body: DeploymentBase) -> Values:
    given = body.given()
    values = {name: value for name, value in given.items() if name in COLUMNS}
    if "concurrency_options" in given:
        values["concurrency_options"] = body.options()
    return values


def _insert(key: UUID, body: DeploymentCreate, values: Values) -> None:
    now = timezone.now()
    deployment = Deployment(id=key, created=now, updated=now, name=body.name, flow_id=body.flow_id, **values)
    for name, value in _bound_limit(deployment, body).items():
        setattr(deployment, name, value)
    prepared.insert(deployment)
    add_schedules(key, body.schedules)


def _overwrite(deployment: Deployment, body: DeploymentCreate, values: Values) -> None:
    existing = SCHEDULES.rows(deployment.id)
    _write(deployment, values | _bound_limit(deployment, body))
    apply_plan(deployment.id, existing, SchedulePlan(replace_all=True, creations=[*body.schedules]))
    forget_planned_runs(deployment)


def _write(deployment: Deployment, values: Values) -> None:
    for name, value in values.items():
        setattr(deployment, name, value)
    prepared.update(deployment, [*values])


def _check_parameters(deployment: Deployment, body: DeploymentUpdate, parameters: Values | None) -> None:
    """The parameters as they will be against the schema as it will be, where it is enforced; none is required."""
    enforced = body.enforce_parameter_schema
    if deployment.enforce_parameter_schema if enforced is None else enforced:
        schema = body.parameter_openapi_schema or deployment.parameter_openapi_schema
        effective = deployment.parameters if parameters is None else parameters
        check_parameters(effective, schema, UPDATE, ignore_required=True)


def _planned(existing: list[Any], body: DeploymentUpdate) -> SchedulePlan[Any, Any]:
    try:
        return plan_schedules(existing, body.schedules if "schedules" in body.model_fields_set else None)
    except UnclearSchedules as error:
        raise Unprocessable(str(error)) from None


def _labels(body: DeploymentCreate) -> Values:
    """The flow's labels, the system's, and the body's on top."""
    flow = FLOW.first(body.flow_id)
    if flow is None:
        raise Conflict(INTEGRITY)
    return flow.labels | {"prefect.flow.id": str(body.flow_id)} | (body.labels or {})


def _template(pool_name: str) -> Values:
    """The base job template of the pool. Raises NotFound."""
    template = WorkPool.objects.filter(name=pool_name).values_list("base_job_template", flat=True).first()
    if template is None:
        raise NotFound(f'Work pool "{pool_name}" not found.')
    return template


def _check_job_variables(pool_name: str, variables: Values) -> None:
    """Refuse job variables that do not fit the pool's template, whatever it requires: a run may still bring that."""
    try:
        job_variables.validate_for_deployment(_template(pool_name), variables)
    except SchemaViolation as error:
        raise Unprocessable(f"Error creating deployment: {error}") from None
    except (InvalidSchema, CircularSchemaReference) as error:
        raise Unprocessable(f"Invalid schema: {error}") from None
    except job_variables.BlockNotFound:
        raise NotFound("Block not found.") from None


def _check_changed_job_variables(pool_name: str, variables: Values) -> None:
    """As for a create, but against the bare schema: no defaults, no blocks. The wire words the refusal its own way."""
    schema = _template(pool_name).get("variables")
    if not isinstance(schema, dict):
        return
    try:
        validate(variables, schema, ignore_required=True)
    except SchemaViolation as error:
        _, _, reason = str(error).partition("Failure reason: ")
        raise Conflict(f'Error creating deployment: <ValidationError: "{reason}">') from None
    except (InvalidSchema, CircularSchemaReference) as error:
        raise Unprocessable(f"Invalid schema: {error}") from None


def _queue(body: DeploymentBase) -> Values:
    """The queue that the body names, created where it is missing; nothing when it names none."""
    if not body.work_pool_name and not body.work_queue_name:
        return {}
    queue = resolve(body.work_pool_name, body.work_queue_name, create=True)
    return {"work_queue_id": queue.pk if queue else None}


def _check_block(key: UUID | None, role: str) -> None:
    if key is not None and not BlockDocument.objects.filter(pk=key).exists():
        raise Conflict(
            f"Error creating deployment. Could not find {role} block with id: {key}. This usually occurs when applying "
            "a deployment specification that was built against a different Prefect database / workspace."
        )


def _check_limit(body: DeploymentBase) -> None:
    key = body.global_concurrency_limit_id
    if key is not None and not ConcurrencyLimit.objects.filter(pk=key).exists():
        raise NotFound(MISSING_LIMIT)


def _bound_limit(deployment: Deployment, body: DeploymentBase) -> Values:
    """The limit to bind, if the body says anything of it. A deployment's own limit is made, changed or deleted here."""
    given, bound = body.model_fields_set, deployment.concurrency_limit_id
    if body.global_concurrency_limit_id is not None:
        return {"concurrency_limit_id": body.global_concurrency_limit_id}
    if body.concurrency_limit is not None:
        return {"concurrency_limit_id": _own_limit(deployment, body.concurrency_limit)}
    if "concurrency_limit" in given and bound is not None:
        ConcurrencyLimit.objects.filter(pk=bound).delete()
    return {"concurrency_limit_id": None} if given & {"concurrency_limit", "global_concurrency_limit_id"} else {}


def _own_limit(deployment: Deployment, slots: int) -> UUID:
    now = timezone.now()
    if bound := deployment.concurrency_limit_id:
        ConcurrencyLimit.objects.filter(pk=bound).exclude(limit=slots).update(limit=slots, updated=now)
        return bound
    name = f"deployment:{deployment.id}"
    limit, made = ConcurrencyLimit.objects.get_or_create(name=name, defaults={"limit": slots})
    if not made:
        ConcurrencyLimit.objects.filter(pk=limit.pk).update(limit=slots, updated=now)
    return limit.pk


def delete_deployments(keys: Sequence[UUID]) -> list[UUID]:
    """Delete these deployments, their schedules, their bound limits and the runs nobody has begun; the ids that went.

    Begun runs stay and keep the id. Rows are locked in the order of their keys, so that two deletions cannot deadlock.
    """
    locked = Deployment.objects.select_for_update().order_by("pk").filter(pk__in=keys)
    limits = dict(locked.values_list("pk", "concurrency_limit_id"))
    delete_flow_runs(FlowRun.objects.unstarted().filter(deployment__in=list(limits)))
    delete_rows(DeploymentSchedule.objects.filter(deployment__in=list(limits)))
    delete_rows(Deployment.objects.filter(pk__in=list(limits)))
    if bound := [limit for limit in limits.values() if limit]:
        ConcurrencyLimit.objects.filter(pk__in=bound).delete()
    return [key for key in keys if key in limits]


def delete_deployment(key: UUID) -> bool:
    return bool(delete_deployments([key]))


def delete_schedule(deployment_id: UUID, key: UUID) -> bool:
    """Delete one schedule of the deployment, whose row the caller has locked; False when there is none."""
    return bool(delete_rows(DeploymentSchedule.objects.filter(pk=key, deployment_id=deployment_id)))

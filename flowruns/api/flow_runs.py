"""`/flow_runs`. Contract: runs_states_orchestration.md, section 2."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar
from uuid import UUID

from django.apps import apps
from django.http import HttpResponse
from pydantic import Field
from rest_framework.request import Request

from flowruns.history import history, lateness
from flowruns.models import Flow, FlowRun
from flowruns.orchestration import engine
from flowruns.projections import FLOW_RUN
from flowruns.registration import create_flow_run
from flowruns.removal import delete_flow_runs
from flowruns.schemas import FlowRunCreate, FlowRunUpdate, Object, SetState, StateCreate, bulk_body
from orchestrator.core.errors import BadRequest, Missing, NotFound, Unprocessable, WireError
from orchestrator.core.filters import select
from orchestrator.core.identifiers import random_name
from orchestrator.core.prepared import Prepared, update
from orchestrator.core.provenance import created_by
from orchestrator.core.viewsets import FilterActions, documented, writes
from orchestrator.core.wire import EmbeddedBody, UtcMoment, require_object

MAX_INTERVAL_SECONDS = 1e9
LOCKED = Prepared(lambda key: FlowRun.objects.select_for_update().filter(pk=key), UUID)


def outcome(result: Any) -> tuple[dict[str, Any], int]:
    """The wire's answer to a proposed state, and its status: 201 when a state was written, else 200."""
    return result.body(), 201 if result.written else 200


def bulk_states() -> type[EmbeddedBody]:
    return bulk_body("FlowRunBulkSetState", "flow_runs", state=(StateCreate, ...), force=(bool, False))


class FlowRunViewSet(FilterActions):
    reads = FilterActions.reads | {"lateness"}
    projection = FLOW_RUN
    missing = "Flow run not found"
    keys: ClassVar[tuple[str, ...]] = ("flow_runs", "flows", "task_runs", "deployments", "work_pools", "work_pool_queues")
    sorts = {
        "ID_DESC": ("-pk",),
        "START_TIME_ASC": ("effective_start", "pk"),
        "START_TIME_DESC": ("-effective_start", "pk"),
        "EXPECTED_START_TIME_ASC": ("expected_start_time", "pk"),
        "EXPECTED_START_TIME_DESC": ("-expected_start_time", "pk"),
        "NAME_ASC": ("name", "pk"),
        "NAME_DESC": ("-name", "pk"),
        "NEXT_SCHEDULED_START_TIME_ASC": ("next_scheduled_start_time", "pk"),
        "END_TIME_DESC": ("-end_time", "pk"),
    }
    default_sort = "ID_DESC"

    @documented(body=FlowRunCreate, status=201, summary="Create a flow run, or get the one of this idempotency key")
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(FlowRunCreate)
        queue = apps.get_app_config("workqueues").resolve_queue(body.work_pool_name, body.work_queue_name)  # type: ignore[attr-defined]
        values = body.model_dump(
            include={
                "name",
                "flow_version",
                "parameters",
                "context",
                "parent_task_run_id",
                "infrastructure_document_id",
                "tags",
                "idempotency_key",
                "work_queue_name",
                "deployment_id",
            }
        )
        values |= {
            "empirical_policy": body.empirical_policy.of_flow_run(),
            "job_variables": body.job_variables or {},
            "labels": labels_of_run(body),
            "work_queue": queue,
            "created_by": created_by(request.headers),
        }
        state = body.state.proposed() if body.state else None
        key, made = create_flow_run(flow_id=body.flow_id, state=state, values=values)
        return self.answer(self.row(key), 201 if made else 200)

    @documented(body=FlowRunUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(FlowRunUpdate)
        run = LOCKED.first(pk)
        if run is None:
            raise NotFound(self.missing)
        changes = body.given()
        if "empirical_policy" in changes:
            changes["empirical_policy"] = body.empirical_policy.of_flow_run()
        if "name" in changes:
            changes["name"] = body.name or random_name()
        if (variables := changes.pop("job_variables", None)) is not None:
            changes["job_variables"] = checked_job_variables(run, variables)
        for name, value in changes.items():
            setattr(run, name, value)
        if changes:
            update(run, [*changes])
        return self.nothing()

    @writes
    def labels(self, request: Request, pk: UUID) -> HttpResponse:
        added = require_object(self.raw_body())
        run = FlowRun.objects.select_for_update().only("labels").filter(pk=pk).first()
        if run is None:
            raise Missing(f"Flow run with id {pk} not found")
        run.labels = run.labels | added
        run.save(update_fields=["labels"])
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        engine.release_slots(FlowRun.objects.filter(pk=pk))
        if not delete_flow_runs(FlowRun.objects.filter(pk=pk)):
            raise NotFound(self.missing)
        return self.nothing()

    @documented(body=lambda: bulk_body("FlowRunBulkDelete", "flow_runs"))
    @writes
    def bulk_delete(self, request: Request) -> HttpResponse:
        body: Any = self.body(bulk_body("FlowRunBulkDelete", "flow_runs"))
        chosen = select(FlowRun, "flow_runs", body.flow_runs).order_by("-pk")
        keys = list(chosen.values_list("pk", flat=True)[: body.limit])
        engine.release_slots(FlowRun.objects.filter(pk__in=keys))
        delete_flow_runs(FlowRun.objects.filter(pk__in=keys))
        return self.answer({"deleted": keys})

    @documented(body=SetState, status=201, summary="Propose a state")
    def set_state(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(SetState)
        agent = request.META.get("HTTP_USER_AGENT", "")
        return self.answer(*outcome(engine.propose(pk, body.state.proposed(), force=body.force, user_agent=agent)))

    @documented(body=bulk_states, summary="Propose a state for several runs, each by itself")
    def bulk_set_state(self, request: Request) -> HttpResponse:
        body: Any = self.body(bulk_states())
        chosen = select(FlowRun, "flow_runs", body.flow_runs).order_by("-pk")
        keys = list(chosen.values_list("pk", flat=True)[: body.limit])
        results = [self._one_of_bulk(key, body) for key in keys]
        return self.answer({"results": results})

    def _one_of_bulk(self, key: UUID, body: Any) -> dict[str, Any]:
        try:
            return {"flow_run_id": key} | engine.propose(key, body.state.proposed(), force=body.force).body()
        except WireError as error:
            details = {"type": "abort_details", "reason": error.detail}
            return {"flow_run_id": key, "status": "ABORT", "state": None, "details": details}

    @documented(body=lambda: FlowRunViewSet.shape("count"), answer={"type": "number"}, summary="The mean lateness of runs")
    def lateness(self, request: Request) -> HttpResponse:
        return self.answer(lateness(self.matching(self.body(self.shape("count")))))

    def history(self, request: Request) -> HttpResponse:
        body: Any = self.body(self.shape("history"))
        return self.answer(history_answer(self, body))

    def wire(self, body: Any) -> dict[str, Any]:
        found = super().wire(body)
        if (queues := getattr(body, "work_queues", None)) is not None:  # the name that history knows them by
            found["work_pool_queues"] = queues
        return found

    @classmethod
    def _fields(cls, kind: str) -> dict[str, Any]:
        fields = super()._fields(kind)
        if kind == "history":
            fields |= HISTORY_FIELDS | {"work_queues": fields.pop("work_pool_queues")}
        return fields


HISTORY_FIELDS: dict[str, Any] = {
    "history_start": (UtcMoment, ...),
    "history_end": (UtcMoment, ...),
    "history_interval_seconds": (Annotated[float, Field(le=MAX_INTERVAL_SECONDS, allow_inf_nan=False)], ...),
}


def history_answer(view: FilterActions, body: Any) -> list[dict[str, Any]]:
    if body.history_interval_seconds < 1:
        raise Unprocessable("History interval must not be less than 1 second.")
    interval = timedelta(seconds=body.history_interval_seconds)
    return history(view.projection.model, lambda rows: view.matching(body, rows), body.history_start, body.history_end, interval)


def labels_of_run(body: FlowRunCreate) -> Object:
    """The labels of a new run: its deployment's or flow's, the system's, and its own on top."""
    system = {"prefect.flow.id": str(body.flow_id)}
    source: Any = Flow.objects.filter(pk=body.flow_id)
    if body.deployment_id:
        system["prefect.deployment.id"] = str(body.deployment_id)
        source = apps.get_model("deployments.Deployment")._default_manager.filter(pk=body.deployment_id)
    return (source.values_list("labels", flat=True).first() or {}) | system | (body.labels or {})


def checked_job_variables(run: FlowRun, variables: Object) -> Object:
    """Job variables that the run may still take: it waits, it has a deployment, and they fit the pool's template."""
    if run.state_type is None:
        raise BadRequest("Flow run state is required to update job variables but none exists")
    if run.state_type != "SCHEDULED":
        raise BadRequest(f"Job variables for a flow run in state {run.state_type} cannot be updated")
    deployments = apps.get_model("deployments.Deployment")._default_manager
    deployment = deployments.filter(pk=run.deployment_id).first() if run.deployment_id else None
    if deployment is None:
        raise BadRequest("A deployment for the flow run could not be found")
    apps.get_app_config("deployments").check_run_job_variables(deployment, variables)  # type: ignore[attr-defined]
    return variables

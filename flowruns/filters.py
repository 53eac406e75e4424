"""Filters of flows, flow runs, task runs and logs (contract: filters_sorts.md, sections 2.1 to 2.3)."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

from django.apps import apps
from django.db.models import Exists, OuterRef, Q
from pydantic import BaseModel, Field, create_model

from flowruns.states import StateType
from orchestrator.core.criteria import ANYTHING, Criterion, Group, TagsCriterion
from orchestrator.core.filters import RowFilter, Through
from orchestrator.core.text_search import MAX_QUERY, Words
from orchestrator.core.wire import UtcMoment, WireModel


class RelatedExists(Criterion):
    """Whether a row of another table points here; `is_null_` asks for its absence, `exists_` for its presence."""

    def __init__(self, operator: str, label: str, column: str, *, joinable: bool = False) -> None:
        super().__init__(bool, operator, joinable=joinable)
        self.related = label
        self.column = column

    def q(self, body: Any) -> Q:
        asked = self.given(body)
        if not asked:
            return ANYTHING
        ((operator, value),) = asked.items()
        found = Exists(apps.get_model(self.related)._default_manager.filter(**{self.column: OuterRef("pk")}))
        return Q(found) if value is (operator == "exists_") else ~Q(found)


class EnclosingFlowRun(Criterion):
    """The flow run of a task run. `is_null_` is false unless said otherwise, and true outweighs `any_`."""

    def q(self, body: Any) -> Q:
        if body.is_null_:
            return Q(flow_run__isnull=True)
        if body.any_ is not None:
            return Q(flow_run_id__in=body.any_)
        lenient = "is_null_" in body.model_fields_set and body.is_null_ is None
        return ANYTHING if lenient else Q(flow_run__isnull=False)


STATE = Group(
    type=Criterion(StateType, "any_ not_any_", path="state_type"),
    name=Criterion(str, "any_ not_any_", path="state_name"),
)


class FlowFilter(RowFilter):
    wire_key = "flows"
    label = "flowruns.Flow"
    id = Criterion(UUID, "any_ not_any_", path="pk")
    deployment = RelatedExists("is_null_", "deployments.Deployment", "flow_id", joinable=True)
    name = Criterion(str, "any_ like_", path="name")
    tags = TagsCriterion("all_ is_null_")
    through = {
        "flow_runs": Through("flowruns.FlowRun", "task_runs", flow_id="pk"),
        "deployments": Through("deployments.Deployment", "work_pools", flow_id="pk"),
    }


class FlowRunFilter(RowFilter):
    wire_key = "flow_runs"
    label = "flowruns.FlowRun"
    id = Criterion(UUID, "any_ not_any_", path="pk")
    name = Criterion(str, "any_ like_", path="name")
    tags = TagsCriterion()
    deployment_id = Criterion(UUID, "any_ is_null_", path="deployment_id", joinable=True)
    work_queue_name = Criterion(str, "any_ is_null_", path="work_queue_name", joinable=True)
    state = STATE
    flow_version = Criterion(str, "any_", path="flow_version")
    start_time = Criterion(UtcMoment, "before_ after_ is_null_", path="effective_start", is_null_="start_time")
    end_time = Criterion(UtcMoment, "before_ after_ is_null_", path="end_time")
    expected_start_time = Criterion(UtcMoment, "before_ after_", path="expected_start_time")
    next_scheduled_start_time = Criterion(UtcMoment, "before_ after_", path="next_scheduled_start_time")
    parent_flow_run_id = Criterion(UUID, "any_", path="parent_task_run__flow_run_id", joinable=True)
    parent_task_run_id = Criterion(UUID, "any_ is_null_", path="parent_task_run_id", joinable=True)
    idempotency_key = Criterion(str, "any_ not_any_", path="idempotency_key")
    created_by = Criterion(
        str, "id_ type_ is_null_", path="created_by", joinable=True, id_="created_by__id", type_="created_by__type"
    )
    through = {
        "flows": Through("flowruns.Flow", id="flow_id"),
        "task_runs": Through("flowruns.TaskRun", flow_run_id="pk"),
        "deployments": Through("deployments.Deployment", id="deployment_id"),
        "work_pool_queues": Through("workqueues.WorkQueue", "work_pools", id="work_queue_id"),
    }


class TaskRunFilter(RowFilter):
    wire_key = "task_runs"
    label = "flowruns.TaskRun"
    id = Criterion(UUID, "any_", path="pk")
    name = Criterion(str, "any_ like_", path="name")
    tags = TagsCriterion("all_ is_null_")
    state = Group(type=Criterion(StateType, "any_", path="state_type"), name=Criterion(str, "any_", path="state_name"))
    start_time = Criterion(UtcMoment, "before_ after_ is_null_", path="start_time")
    end_time = Criterion(UtcMoment, "before_ after_ is_null_", path="end_time")
    expected_start_time = Criterion(UtcMoment, "before_ after_", path="expected_start_time")
    subflow_runs = RelatedExists("exists_", "flowruns.FlowRun", "parent_task_run_id")
    flow_run_id = EnclosingFlowRun(UUID, "any_ is_null_", joinable=True)
    through = {
        "flow_runs": Through("flowruns.FlowRun", "flows", "deployments", "work_pools", "work_pool_queues", id="flow_run_id"),
    }


class TextQuery(Criterion):
    """Words searched in a log line: its message and the logger's name, case ignored, no wildcards."""

    def __init__(self) -> None:
        super().__init__(str, "query")

    @cached_property
    def shape(self) -> type[BaseModel]:
        return create_model("TextQueryBody", __base__=WireModel, query=(Annotated[str, Field(max_length=MAX_QUERY)], ...))

    def q(self, body: Any) -> Q:
        return Words.of(body.query).combined(lambda word: Q(message__icontains=word) | Q(name__icontains=word), Q())


class ArtifactFilter(RowFilter):
    wire_key = "artifacts"
    label = "flowruns.Artifact"
    id = Criterion(UUID, "any_", path="pk")
    key = Criterion(str, "any_ like_ exists_", path="key")
    flow_run_id = Criterion(UUID, "any_", path="flow_run_id")
    task_run_id = Criterion(UUID, "any_", path="task_run_id")
    type = Criterion(str, "any_ not_any_", path="type")
    through = {
        "flow_runs": Through("flowruns.FlowRun", "flows", "deployments", id="flow_run_id"),
        "task_runs": Through("flowruns.TaskRun", id="task_run_id"),
    }


class LatestArtifactFilter(RowFilter):
    """As of artifacts, but by the id of the artifact that is the latest."""

    wire_key = "artifacts"
    label = "flowruns.LatestArtifact"
    latest_id = Criterion(UUID, "any_", path="latest_id")
    key = Criterion(str, "any_ like_ exists_", path="key")
    flow_run_id = Criterion(UUID, "any_", path="flow_run_id")
    task_run_id = Criterion(UUID, "any_", path="task_run_id")
    type = Criterion(str, "any_ not_any_", path="type")
    through = ArtifactFilter.through


class LogFilter(RowFilter):
    wire_key = "logs"
    label = "flowruns.Log"
    level = Criterion(int, "ge_ le_", path="level")
    timestamp = Criterion(UtcMoment, "before_ after_", path="timestamp")
    flow_run_id = Criterion(UUID, "any_", path="flow_run_id")
    task_run_id = Criterion(UUID, "any_ is_null_", path="task_run_id")
    text = TextQuery()

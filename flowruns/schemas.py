"""Bodies of the flow, run, state and log routes (contract: runs_states_orchestration.md, conventions.md section 2)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, NotRequired
from uuid import UUID

from django.conf import settings
from pydantic import AfterValidator, ConfigDict, Field, create_model, field_validator, model_validator, with_config
from typing_extensions import TypedDict

from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType
from orchestrator.core import json_body
from orchestrator.core.criteria import optional
from orchestrator.core.filters import RowFilter
from orchestrator.core.wire import (
    EmbeddedBody,
    LabelValue,
    Moment,
    Name,
    NaturalInt,
    Object,
    Tags,
    Text,
    UtcMoment,
    WireModel,
)

MAX_KEY = 2_000
MAX_BULK = 50
MAX_IDS = 200
Labels = dict[str, LabelValue]
Key = Annotated[str, Field(max_length=MAX_KEY)]


def bounded_parameters(parameters: Object | None) -> Object | None:
    """The parameters, unless they are larger than the server keeps (flows_deployments.md, section 3.2)."""
    limit = settings.MAX_PARAMETER_BYTES
    if parameters and limit and (size := len(json_body.dump(parameters))) > limit:
        raise ValueError(f"Flow run parameters must be less than {limit:,} bytes when serialized (got {size:,} bytes).")
    return parameters


class StateDetails(WireModel):
    """What a proposed state carries; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    child_flow_run_id: UUID | None = None
    scheduled_time: Moment | None = None
    cache_key: str | None = None
    cache_expiration: Moment | None = None
    deferred: bool | None = False
    untrackable_result: bool = False
    pause_timeout: Moment | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None
    run_input_keyset: dict[str, str] | None = None
    refresh_cache: bool | None = None
    retriable: bool | None = None
    transition_id: UUID | None = None
    task_parameters_id: UUID | None = None
    traceparent: str | None = None
    deployment_concurrency_lease_id: UUID | None = None


class StateCreate(WireModel):
    type: StateType
    name: Text | None = None
    message: Annotated[str, Field(max_length=1_000_000)] | None = None
    data: Any = None
    state_details: StateDetails = StateDetails()

    def proposed(self) -> ProposedState:
        details = {name: wire_text(value) for name, value in self.state_details.given().items()}
        return ProposedState(type=self.type, name=self.name or "", message=self.message, data=self.data, details=details)


def wire_text(value: Any) -> Any:
    """A detail as it is stored: ids and times as text, a time with the offset it was given."""
    match value:
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
    return value


class Policy(WireModel):
    model_config = ConfigDict(extra="ignore")

    max_retries: NaturalInt = 0
    retry_delay_seconds: float = 0
    retries: NaturalInt | None = None
    retry_delay: float | Annotated[list[float], Field(max_length=50)] | None = None
    retry_jitter_factor: Annotated[float, Field(ge=0)] | None = None
    pause_keys: Annotated[list[str], Field(max_length=1_000)] | None = None
    resuming: bool | None = False
    retry_type: str | None = None

    @field_validator("retry_type")
    @classmethod
    def known(cls, value: str | None) -> str | None:
        if value not in (None, "in_process", "reschedule"):
            raise ValueError("Input should be 'in_process' or 'reschedule'")
        return value

    @model_validator(mode="after")
    def older_names(self) -> Policy:
        if self.retries is None and self.max_retries:
            self.retries = self.max_retries
        if self.retry_delay is None and self.retry_delay_seconds:
            self.retry_delay = self.retry_delay_seconds
        return self

    def of_flow_run(self) -> Object:
        """The policy as a flow run keeps it."""
        return {
            "max_retries": self.max_retries,
            "retry_delay_seconds": self.retry_delay_seconds,
            "retries": self.retries,
            "retry_delay": self.retry_delay,
            "pause_keys": self.pause_keys or [],
            "resuming": self.resuming,
            "retry_type": self.retry_type,
        }

    def of_task_run(self) -> Object:
        return {
            "max_retries": self.max_retries,
            "retry_delay_seconds": self.retry_delay_seconds,
            "retries": self.retries,
            "retry_delay": self.retry_delay,
            "retry_jitter_factor": self.retry_jitter_factor,
        }


class FlowCreate(WireModel):
    name: Name
    tags: Tags = []
    labels: Labels | None = None


class FlowUpdate(WireModel):
    tags: Tags = []


class FlowRunBase(WireModel):
    name: Text | None = None
    flow_version: Text | None = None
    parameters: Object = {}
    empirical_policy: Policy = Policy()
    tags: Tags = []

    _size = field_validator("parameters")(classmethod(lambda cls, value: bounded_parameters(value)))


class FlowRunCreate(FlowRunBase):
    flow_id: UUID
    state: StateCreate | None = None
    context: Object = {}
    parent_task_run_id: UUID | None = None
    infrastructure_document_id: UUID | None = None
    labels: Labels | None = None
    idempotency_key: Key | None = None
    work_pool_name: Text | None = None
    work_queue_name: Text | None = None
    job_variables: Object | None = None
    deployment_id: UUID | None = None


class FlowRunUpdate(FlowRunBase):
    infrastructure_pid: Text | None = None
    job_variables: Object | None = None


class SetState(EmbeddedBody):
    state: StateCreate
    force: bool = False


class TaskRunCreate(WireModel):
    id: UUID | None = None
    state: StateCreate | None = None
    name: Text | None = None
    flow_run_id: UUID | None = None
    task_key: Key
    dynamic_key: Key
    cache_key: Key | None = None
    cache_expiration: UtcMoment | None = None
    task_version: Text | None = None
    empirical_policy: Policy = Policy()
    tags: Tags = []
    labels: Labels | None = None
    task_inputs: dict[str, list[Object]] = {}


class TaskRunUpdate(WireModel):
    name: Text | None = None


@with_config(ConfigDict(extra="forbid"))
class LogCreate(TypedDict):
    """A line of a log. A dictionary and not a model: a request brings hundreds."""

    name: str
    level: Annotated[int, Field(ge=-32_768, le=32_767)]
    message: str
    timestamp: UtcMoment
    flow_run_id: NotRequired[UUID | None]
    task_run_id: NotRequired[UUID | None]


ARTIFACT_KEY = re.compile(r"[a-z0-9-]*")
INPUT_KEY = re.compile(r"[a-z0-9-]+")


def artifact_key(key: str) -> str:
    if not ARTIFACT_KEY.fullmatch(key):
        raise ValueError("Artifact key must only contain lowercase letters, numbers, and dashes.")
    return key


def input_key(key: str) -> str:
    if not INPUT_KEY.fullmatch(key):
        raise ValueError("Input key must only contain lowercase letters, numbers, and dashes.")
    return key


class ArtifactUpdate(WireModel):
    data: Any = None
    description: str | None = None
    metadata_: dict[str, str] | None = None

    def columns(self) -> Object:
        """What was given, as columns."""
        values = self.given()
        if "metadata_" in values:
            values["metadata"] = values.pop("metadata_")
        return values


class ArtifactCreate(ArtifactUpdate):
    key: Annotated[Key, AfterValidator(artifact_key)] | None = None
    type: Text | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class InputCreate(EmbeddedBody):
    key: Annotated[Key, AfterValidator(input_key)]
    value: str
    sender: Text | None = None


class InputPage(EmbeddedBody):
    prefix: Text
    limit: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    exclude_keys: Annotated[list[str], Field(max_length=10_000)] = []


class Resume(EmbeddedBody):
    run_input: Object | None = None


class TaskWorkerFilter(WireModel):
    task_keys: Annotated[list[str], Field(max_length=1_000)] | None = None


class TaskWorkerPage(EmbeddedBody):
    task_worker_filter: TaskWorkerFilter | None = None


class FlowIds(EmbeddedBody):
    flow_ids: Annotated[list[UUID], Field(max_length=MAX_IDS)]


class FlowRunIds(EmbeddedBody):
    flow_run_ids: Annotated[list[UUID], Field(max_length=MAX_IDS)]


class SearchFilter(WireModel):
    object: Text
    property: Text
    type: Text
    operation: Text
    value: Any


class SearchBody(WireModel):
    name: Text
    filters: Annotated[list[SearchFilter], Field(max_length=1_000)] = []


class SearchPage(EmbeddedBody):
    limit: int | None = None
    offset: NaturalInt = 0


def bulk_body(name: str, key: str, **more: Any) -> type[EmbeddedBody]:
    """The body of a bulk operation: which rows, and how many at most."""
    return create_model(
        name,
        __base__=EmbeddedBody,
        **{
            key: optional(RowFilter.for_key(key).shape()),
            "limit": (Annotated[int, Field(ge=1, le=MAX_BULK)], MAX_BULK),
            **more,
        },
    )

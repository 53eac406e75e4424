"""Bodies of the deployment and schedule routes (contract: flows_deployments.md, sections 3, 4, 6 and 7)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from django.conf import settings
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from deployments.schedule_shapes import Schedule
from flowruns.schemas import Key, Labels, Policy, StateCreate, bounded_parameters
from orchestrator.core.json_schema import (
    CircularSchemaReference,
    InvalidSchema,
    SchemaViolation,
    check_schema,
    validate,
)
from orchestrator.core.wire import (
    MAX_LIST,
    EmbeddedBody,
    Object,
    PositiveInt,
    Seconds,
    Tags,
    Text,
    UtcMoment,
    WireModel,
)

MAX_SCHEDULES = 1_000
TWO_LIMITS = "A deployment cannot have both a concurrency limit and a global concurrency limit."
# Keys of old clients, dropped without a word.
LEGACY_KEYS = frozenset({"worker_pool_queue_id", "worker_pool_name", "worker_pool_queue_name", "work_pool_queue_name"})


def _few_enough(value: int | None) -> int | None:
    most = settings.SCHEDULE_MAX_SCHEDULED_RUNS
    if value is not None and value > most:
        raise ValueError(f"`max_scheduled_runs` must be less than or equal to {most}.")
    return value


DeploymentName = Annotated[str, StringConstraints(pattern=r"^[^/%&><]*$", max_length=10_240)]
Parameters = Annotated[Object, AfterValidator(bounded_parameters)]
Slug = Annotated[str, Field(max_length=1_000)]
MaxScheduledRuns = Annotated[PositiveInt | None, AfterValidator(_few_enough)]
PullSteps = Annotated[list[Object], Field(max_length=MAX_LIST)]


class CollisionStrategy(StrEnum):
    ENQUEUE = "ENQUEUE"  # a run over the limit waits
    CANCEL_NEW = "CANCEL_NEW"  # a run over the limit is cancelled


class ConcurrencyOptions(WireModel):
    """What happens to a run over the limit; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    collision_strategy: CollisionStrategy
    grace_period_seconds: Annotated[int, Field(ge=60, le=86_400)] | None = None


class VersionInfo(WireModel):
    """Accepted and not stored: this server has no versions of deployments."""

    model_config = ConfigDict(extra="allow")

    type: str
    version: str


class ScheduleUpdate(WireModel):
    """A schedule's change. An absent or null `active` leaves the flag as it is."""

    schedule: Schedule | None = None
    active: bool | None = None
    max_scheduled_runs: MaxScheduledRuns = None
    parameters: Parameters = {}
    slug: Slug | None = None
    replaces: Slug | None = None


class ScheduleCreate(ScheduleUpdate):
    """A new schedule: active, unless it says otherwise or takes the place of one that is not."""

    schedule: Schedule


NewSchedules: TypeAdapter[list[ScheduleCreate]] = TypeAdapter(Annotated[list[ScheduleCreate], Field(max_length=MAX_SCHEDULES)])


class SchemaValues(EmbeddedBody):
    """Values and the schema they should fit."""

    json_schema: Annotated[Object, Field(alias="schema")]
    values: Object


class DeploymentBase(WireModel):
    """What a create and an update have in common."""

    concurrency_limit: PositiveInt | None = None
    concurrency_options: ConcurrencyOptions | None = None
    global_concurrency_limit_id: UUID | None = None
    parameter_openapi_schema: Object | None = None
    pull_steps: PullSteps | None = None
    work_queue_name: Text | None = None
    work_pool_name: Text | None = None
    storage_document_id: UUID | None = None
    infrastructure_document_id: UUID | None = None
    description: Text | None = None
    path: Text | None = None
    version: Text | None = None
    entrypoint: Text | None = None
    version_info: VersionInfo | None = None

    @model_validator(mode="before")
    @classmethod
    def without_legacy_keys(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.keys() & LEGACY_KEYS:
            return {key: item for key, item in value.items() if key not in LEGACY_KEYS}
        return value

    @model_validator(mode="after")
    def at_most_one_limit(self) -> DeploymentBase:
        if self.concurrency_limit and self.global_concurrency_limit_id:
            raise ValueError(TWO_LIMITS)
        return self

    def options(self) -> Object | None:
        """The concurrency options as they are stored."""
        return self.concurrency_options.model_dump(mode="json") if self.concurrency_options else None


class DeploymentCreate(DeploymentBase):
    name: DeploymentName
    flow_id: UUID
    paused: bool = False
    schedules: Annotated[list[ScheduleCreate], Field(max_length=MAX_SCHEDULES)] = []
    enforce_parameter_schema: bool = True
    parameters: Parameters = {}
    tags: Tags = []
    labels: Labels | None = None
    job_variables: Object = {}

    @model_validator(mode="after")
    def parameters_that_fit(self) -> DeploymentCreate:
        """Stored parameters are defaults, so nothing is required of them. Only an explicit true asks for the check."""
        if "enforce_parameter_schema" not in self.model_fields_set or not self.enforce_parameter_schema:
            return self
        if not self.parameter_openapi_schema:
            return self
        try:
            check_schema(self.parameter_openapi_schema)
            validate(self.parameters, self.parameter_openapi_schema, ignore_required=True)
        except InvalidSchema as error:
            raise ValueError(f"The provided schema is not a valid json schema. Schema error: {error}") from None
        except (SchemaViolation, CircularSchemaReference) as error:
            raise ValueError(str(error)) from None
        return self


class DeploymentUpdate(DeploymentBase):
    paused: bool = False
    schedules: Annotated[list[ScheduleUpdate], Field(max_length=MAX_SCHEDULES)] = []
    enforce_parameter_schema: bool | None = None
    parameters: Parameters | None = None
    tags: Tags = []
    job_variables: Object | None = None


class DeploymentFlowRunCreate(WireModel):
    """A run of a deployment; what is absent comes from the deployment."""

    state: StateCreate | None = None
    name: Text | None = None
    parameters: Parameters = {}
    enforce_parameter_schema: bool | None = None
    context: Object = {}
    infrastructure_document_id: UUID | None = None
    empirical_policy: Policy = Policy()
    tags: Tags = []
    idempotency_key: Key | None = None
    labels: Labels | None = None
    parent_task_run_id: UUID | None = None
    work_queue_name: Text | None = None
    job_variables: Annotated[Object, BeforeValidator(lambda value: {} if value is None else value)] = {}


NewRuns: TypeAdapter[list[DeploymentFlowRunCreate]] = TypeAdapter(list[DeploymentFlowRunCreate])


class RunnerPoll(EmbeddedBody):
    deployment_ids: Annotated[list[UUID], Field(max_length=MAX_LIST)]
    scheduled_before: UtcMoment | None = None
    limit: int | None = None


class ScheduleRange(EmbeddedBody):
    """Between when, for how long and how many runs to plan; what is absent comes from the settings."""

    start_time: UtcMoment | None = None
    end_time: UtcMoment | None = None
    min_time: Annotated[Seconds, Field(ge=0)] | None = None
    min_runs: Annotated[int, Field(ge=0, le=1_000)] | None = None
    max_runs: Annotated[int, Field(ge=0, le=1_000)] | None = None

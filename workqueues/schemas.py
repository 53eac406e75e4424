"""Bodies of the pool, queue and worker routes (contract: work_pools_queues_workers.md, sections 2 to 8)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from orchestrator.core.viewsets import MAX_OFFSET
from orchestrator.core.wire import (
    MAX_LIST,
    EmbeddedBody,
    Name,
    NaturalInt,
    Object,
    PositiveInt,
    Tags,
    Text,
    UtcMoment,
    WireModel,
)
from workqueues.job_variables import validate_template

MAX_SLOTS_SHOWN = 200


def _not_blank(name: str) -> str:
    if not name.strip():
        raise ValueError("name cannot be an empty string")
    return name


PoolName = Annotated[Name, AfterValidator(_not_blank)]


def _valid_template(template: Object) -> Object:
    validate_template(template)
    return template


Template = Annotated[Object, AfterValidator(_valid_template)]


class StorageConfiguration(WireModel):
    bundle_upload_step: Object | None = None
    bundle_execution_step: Object | None = None
    default_result_storage_block_id: UUID | None = None

    def stored(self) -> Object:
        return self.model_dump(mode="json")


class WorkPoolCreate(WireModel):
    name: PoolName
    description: Text | None = None
    type: Text = "prefect-agent"
    base_job_template: Template = {}
    is_paused: bool = False
    concurrency_limit: NaturalInt | None = None
    storage_configuration: StorageConfiguration = StorageConfiguration()


class WorkPoolUpdate(WireModel):
    description: Text | None = None
    is_paused: bool | None = None
    base_job_template: Template = {}
    concurrency_limit: NaturalInt | None = None
    storage_configuration: StorageConfiguration | None = None


class QueueFilter(WireModel):
    """The deprecated choice of runs by tags and deployments; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    tags: Tags | None = None
    deployment_ids: Annotated[list[UUID], Field(max_length=MAX_LIST)] | None = None

    def stored(self) -> Object:
        return self.model_dump(mode="json")


class WorkQueueCreate(WireModel):
    name: PoolName
    description: Text | None = ""
    is_paused: bool = False
    concurrency_limit: NaturalInt | None = None
    priority: PositiveInt | None = None
    filter: QueueFilter | None = None


class WorkQueueUpdate(WireModel):
    name: PoolName | None = None
    description: Text | None = None
    is_paused: bool = False
    concurrency_limit: NaturalInt | None = None
    priority: PositiveInt | None = None
    last_polled: UtcMoment | None = None
    filter: QueueFilter | None = None


class Heartbeat(EmbeddedBody):
    name: Annotated[str, Field(max_length=10_240)]
    heartbeat_interval_seconds: NaturalInt | None = None


class ScheduledRunsAsked(EmbeddedBody):
    work_queue_names: Annotated[list[str], Field(max_length=MAX_LIST)] | None = None
    scheduled_before: UtcMoment | None = None
    scheduled_after: UtcMoment | None = None
    limit: int | None = None


class AgentRunsAsked(EmbeddedBody):
    limit: int | None = None
    scheduled_before: UtcMoment | None = None


class SlotsPage(EmbeddedBody):
    page: Annotated[int, Field(ge=1, le=MAX_OFFSET)] = 1
    limit: int | None = None


class PoolSlotsPage(SlotsPage):
    flow_run_limit: Annotated[int, Field(ge=0, le=MAX_SLOTS_SHOWN)] = 10

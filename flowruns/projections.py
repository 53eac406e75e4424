"""Flows, runs, states and logs as the wire shows them (contract: runs_states_orchestration.md, section 1)."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from flowruns.models import (
    Artifact,
    Flow,
    FlowRun,
    FlowRunInput,
    FlowRunState,
    LatestArtifact,
    Log,
    SavedSearch,
    TaskRun,
    TaskRunState,
)
from flowruns.states import TERMINAL, StateType
from orchestrator.core.projection import Joined, Projection, WireRow, moment_of

FLOW = Projection(
    Flow, {"id": "id", "created": "created", "updated": "updated", "name": "name", "tags": "tags", "labels": "labels"}
)

STATE_COLUMNS = {
    "id": "id",
    "type": "type",
    "name": "name",
    "timestamp": "timestamp",
    "message": "message",
    "data": "data",
    "state_details": "details",
}
FLOW_RUN_STATE = Projection(FlowRunState, STATE_COLUMNS)
TASK_RUN_STATE = Projection(TaskRunState, STATE_COLUMNS)
STATE = Joined("state", STATE_COLUMNS)

LOG = Projection(
    Log,
    {name: name for name in ("id", "created", "updated", "name", "level", "message", "timestamp", "flow_run_id", "task_run_id")},
)


ARTIFACT_COLUMNS = {
    "id": "id",
    "created": "created",
    "updated": "updated",
    "key": "key",
    "type": "type",
    "description": "description",
    "data": "data",
    "metadata_": "metadata",
    "flow_run_id": "flow_run_id",
    "task_run_id": "task_run_id",
}
ARTIFACT = Projection(Artifact, ARTIFACT_COLUMNS)
LATEST_AS_ARTIFACT = Projection(LatestArtifact, ARTIFACT_COLUMNS)
LATEST_ARTIFACT = Projection(LatestArtifact, ARTIFACT_COLUMNS | {"latest_id": "latest_id"})
INPUT = Projection(FlowRunInput, {name: name for name in ("id", "created", "updated", "flow_run_id", "key", "value", "sender")})
SAVED_SEARCH = Projection(SavedSearch, {name: name for name in ("id", "created", "updated", "name", "filters")})


def with_times(row: WireRow, now: datetime) -> None:
    """The computed times of a run (section 1.4), in place of the columns they come from."""
    delay, since, type_ = row.pop("start_delay"), row.pop("state_timestamp"), row["state_type"]
    if type_ == StateType.RUNNING and (began := moment_of(since)):
        row["estimated_run_time"] += (now - began).total_seconds()
    if delay is None and type_ not in TERMINAL and (expected := moment_of(row["expected_start_time"])) and expected < now:
        delay = (now - expected).total_seconds()
    row["estimated_start_time_delta"] = delay or 0.0


# What `with_times` needs and takes away.
HELPERS = ("start_delay", "state_timestamp")
RUN_TIMES = {
    "state_type": "state_type",
    "state_name": "state_name",
    "run_count": "run_count",
    "expected_start_time": "expected_start_time",
    "next_scheduled_start_time": "next_scheduled_start_time",
    "start_time": "start_time",
    "end_time": "end_time",
    "total_run_time": "total_run_seconds",
    # Placeholders that keep the wire's order; `with_times` fills them.
    "estimated_run_time": "total_run_seconds",
    "estimated_start_time_delta": "start_delay_seconds",
    "start_delay": "start_delay_seconds",
    "state_timestamp": "state_timestamp",
}
FLOW_RUN_OWN: dict[str, str | Combinable | Joined] = {
    "id": "id",
    "created": "created",
    "updated": "updated",
    "name": "name",
    "flow_id": "flow_id",
    "state_id": "state_id",
    "deployment_id": "deployment_id",
    "deployment_version": "deployment_version",
    "work_queue_id": "work_queue_id",
    "work_queue_name": "work_queue_name",
    "flow_version": "flow_version",
    "parameters": "parameters",
    "idempotency_key": "idempotency_key",
    "context": "context",
    "empirical_policy": "empirical_policy",
    "tags": "tags",
    "labels": "labels",
    "parent_task_run_id": "parent_task_run_id",
    **RUN_TIMES,
    "auto_scheduled": "auto_scheduled",
    "infrastructure_document_id": "infrastructure_document_id",
    "infrastructure_pid": "infrastructure_pid",
    "created_by": "created_by",
    "job_variables": "job_variables",
}
FLOW_RUN = Projection(
    FlowRun,
    FLOW_RUN_OWN
    | {
        "work_queue_name": Coalesce("work_queue__name", F("work_queue_name")),
        "work_pool_id": "work_queue__work_pool_id",
        "work_pool_name": "work_queue__work_pool__name",
        "state": STATE,
    },
    with_times,
    HELPERS,
)

TASK_RUN = Projection(
    TaskRun,
    {
        **{
            name: name
            for name in (
                "id",
                "created",
                "updated",
                "name",
                "flow_run_id",
                "task_key",
                "dynamic_key",
                "cache_key",
                "cache_expiration",
                "task_version",
                "empirical_policy",
                "tags",
                "labels",
                "state_id",
                "task_inputs",
            )
        },
        **RUN_TIMES,
        "flow_run_run_count": "flow_run_run_count",
        "state": STATE,
    },
    with_times,
    HELPERS,
)

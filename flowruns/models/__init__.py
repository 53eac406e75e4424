from __future__ import annotations

from flowruns.models.deliveries import CachedState, TaskDelivery, TaskWorker
from flowruns.models.flows import Flow
from flowruns.models.records import Artifact, FlowRunInput, LatestArtifact, Log, SavedSearch
from flowruns.models.runs import FlowRun, TaskRun
from flowruns.models.states import FlowRunState, TaskRunState

__all__ = [
    "Artifact",
    "CachedState",
    "Flow",
    "FlowRun",
    "FlowRunInput",
    "FlowRunState",
    "LatestArtifact",
    "Log",
    "SavedSearch",
    "TaskDelivery",
    "TaskRun",
    "TaskRunState",
    "TaskWorker",
]

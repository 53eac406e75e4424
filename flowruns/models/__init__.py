from __future__ import annotations

from flowruns.models.flows import Flow
from flowruns.models.records import Log
from flowruns.models.runs import FlowRun, TaskRun
from flowruns.models.states import FlowRunState, TaskRunState

__all__ = ["Flow", "FlowRun", "FlowRunState", "Log", "TaskRun", "TaskRunState"]

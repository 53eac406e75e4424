"""Paths under /api of flows, runs, states and logs."""

from __future__ import annotations

from flowruns.api.flow_runs import FlowRunViewSet
from flowruns.api.flows import FlowViewSet
from flowruns.api.records import LogViewSet
from flowruns.api.states import FlowRunStateViewSet, TaskRunStateViewSet
from flowruns.api.task_runs import TaskRunViewSet
from orchestrator.core.routes import filter_routes, route

flow_urls = [
    route("", FlowViewSet, post="create"),
    *filter_routes(FlowViewSet),
    route("bulk_delete", FlowViewSet, post="bulk_delete"),
    route("<id:pk>", FlowViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("name/<str:name>", FlowViewSet, get="retrieve_by_name"),
]
flow_run_urls = [
    route("", FlowRunViewSet, post="create"),
    *filter_routes(FlowRunViewSet),
    route("lateness", FlowRunViewSet, post="lateness"),
    route("history", FlowRunViewSet, post="history"),
    route("bulk_delete", FlowRunViewSet, post="bulk_delete"),
    route("bulk_set_state", FlowRunViewSet, post="bulk_set_state"),
    route("<id:pk>", FlowRunViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("<id:pk>/set_state", FlowRunViewSet, post="set_state"),
    route("<id:pk>/labels", FlowRunViewSet, patch="labels"),
]
task_run_urls = [
    route("", TaskRunViewSet, post="create"),
    *filter_routes(TaskRunViewSet),
    route("history", TaskRunViewSet, post="history"),
    route("<id:pk>", TaskRunViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("<id:pk>/set_state", TaskRunViewSet, post="set_state"),
]
flow_run_state_urls = [
    route("", FlowRunStateViewSet, get="list"),
    route("<id:pk>", FlowRunStateViewSet, get="retrieve"),
]
task_run_state_urls = [
    route("", TaskRunStateViewSet, get="list"),
    route("<id:pk>", TaskRunStateViewSet, get="retrieve"),
]
log_urls = [
    route("", LogViewSet, post="create"),
    *filter_routes(LogViewSet, "filter"),
]

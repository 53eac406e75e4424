"""Paths under /api of flows, runs, states and logs."""

from __future__ import annotations

from flowruns.api.artifacts import ArtifactViewSet, LatestArtifactViewSet, SavedSearchViewSet
from flowruns.api.flow_runs import FlowRunViewSet
from flowruns.api.flows import FlowViewSet
from flowruns.api.of_run import InputViewSet, OneRunViewSet
from flowruns.api.records import LogViewSet
from flowruns.api.states import FlowRunStateViewSet, TaskRunStateViewSet
from flowruns.api.task_runs import TaskRunViewSet, TaskWorkerViewSet
from flowruns.api.ui import FlowHelpers, FlowRunHelpers, TaskRunHelpers
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
    route("<id:pk>/resume", OneRunViewSet, post="resume"),
    route("<id:pk>/graph", OneRunViewSet, get="graph"),
    route("<id:pk>/graph-v2", OneRunViewSet, get="graph_v2"),
    route("<id:pk>/logs/download", OneRunViewSet, get="log_file"),
    route("<id:pk>/input", InputViewSet, post="create"),
    route("<id:pk>/input/filter", InputViewSet, post="filter"),
    route("<id:pk>/input/<str:key>", InputViewSet, get="read", delete="destroy"),
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
artifact_urls = [
    route("", ArtifactViewSet, post="create"),
    *filter_routes(ArtifactViewSet, "filter", "count"),
    *[route(f"latest/{kind}", LatestArtifactViewSet, post=kind) for kind in ("filter", "count")],
    route("<id:pk>", ArtifactViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("<str:key>/latest", ArtifactViewSet, get="latest"),
]
saved_search_urls = [
    route("", SavedSearchViewSet, put="keep"),
    route("filter", SavedSearchViewSet, post="filter"),
    route("<id:pk>", SavedSearchViewSet, get="retrieve", delete="destroy"),
]
task_worker_urls = [route("filter", TaskWorkerViewSet, post="filter")]
ui_urls = [
    route("flows/count-deployments", FlowHelpers, post="count_deployments"),
    route("flows/next-runs", FlowHelpers, post="next_runs"),
    route("flow_runs/history", FlowRunHelpers, post="history"),
    route("flow_runs/count-task-runs", FlowRunHelpers, post="count_task_runs"),
    route("task_runs/dashboard/counts", TaskRunHelpers, post="dashboard_counts"),
    route("task_runs/count", TaskRunHelpers, post="count"),
    route("task_runs/<id:pk>", TaskRunHelpers, get="retrieve"),
]

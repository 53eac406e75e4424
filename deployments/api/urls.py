"""Paths under /api/deployments of deployments and their schedules."""

from __future__ import annotations

from deployments.api.deployments import DeploymentViewSet
from deployments.api.schedules import ScheduleViewSet
from orchestrator.core.routes import filter_routes, route

urlpatterns = [
    route("<id:pk>", DeploymentViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("<id:pk>/create_flow_run", DeploymentViewSet, post="create_flow_run"),
    route("<id:pk>/create_flow_run/bulk", DeploymentViewSet, post="create_flow_runs"),
    route("get_scheduled_flow_runs", DeploymentViewSet, post="scheduled_flow_runs"),
    route("name/<str:flow_name>/<str:name>", DeploymentViewSet, get="retrieve_by_name"),
    route("", DeploymentViewSet, post="create"),
    *filter_routes(DeploymentViewSet),
    route("bulk_delete", DeploymentViewSet, post="bulk_delete"),
    route("<id:pk>/schedule", DeploymentViewSet, post="schedule"),
    route("<id:pk>/pause_deployment", DeploymentViewSet, post="pause"),
    route("<id:pk>/resume_deployment", DeploymentViewSet, post="resume"),
    route("<id:pk>/work_queue_check", DeploymentViewSet, get="work_queue_check"),
    route("<id:pk>/schedules", ScheduleViewSet, get="of_deployment", post="create"),
    route("<id:pk>/schedules/<id:key>", ScheduleViewSet, patch="partial_update", delete="destroy"),
]

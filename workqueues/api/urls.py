"""Paths under /api of work pools, queues, workers and collections."""

from __future__ import annotations

from orchestrator.core.routes import filter_routes, route
from workqueues.api.collections import CollectionViewSet
from workqueues.api.legacy_queues import WorkQueueViewSet
from workqueues.api.pools import HandOutViewSet, WorkPoolViewSet
from workqueues.api.queues import PoolQueueViewSet
from workqueues.api.workers import WorkerViewSet

pool_urls = [
    route("<str:name>/get_scheduled_flow_runs", HandOutViewSet, post="get_scheduled_flow_runs"),
    route("<str:pool_name>/workers/heartbeat", WorkerViewSet, post="heartbeat"),
    route("", WorkPoolViewSet, post="create"),
    *filter_routes(WorkPoolViewSet, "filter", "count"),
    route("<str:name>", WorkPoolViewSet, get="retrieve_by_name", patch="partial_update", delete="destroy"),
    route("<str:name>/concurrency_status", WorkPoolViewSet, post="concurrency_status"),
    route("<str:pool_name>/queues", PoolQueueViewSet, post="create"),
    route("<str:pool_name>/queues/filter", PoolQueueViewSet, post="filter"),
    route(
        "<str:pool_name>/queues/<str:name>",
        PoolQueueViewSet,
        get="retrieve_by_name",
        patch="partial_update",
        delete="destroy",
    ),
    route("<str:pool_name>/workers/filter", WorkerViewSet, post="filter"),
    route("<str:pool_name>/workers/<str:name>", WorkerViewSet, delete="destroy"),
]
queue_urls = [
    route("", WorkQueueViewSet, post="create"),
    *filter_routes(WorkQueueViewSet, "filter"),
    route("name/<str:name>", WorkQueueViewSet, get="retrieve_by_name"),
    route("<id:pk>", WorkQueueViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("<id:pk>/get_runs", WorkQueueViewSet, post="get_runs"),
    route("<id:pk>/concurrency_status", WorkQueueViewSet, post="concurrency_status"),
    route("<id:pk>/status", WorkQueueViewSet, get="status"),
]
collection_urls = [route("views/<str:view>", CollectionViewSet, get="view")]

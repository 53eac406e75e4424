"""Every address of the server. An endpoint lives in the app that its path names."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from deployments.api.ui import urlpatterns as schema_urls
from deployments.api.urls import urlpatterns as deployment_urls
from flowruns.api import urls as runs
from orchestrator.accounts.api import urlpatterns as account_urls
from orchestrator.automations.api import template_urls
from orchestrator.automations.api import urlpatterns as automation_urls
from orchestrator.blocks import api as blocks
from orchestrator.concurrency.api import tag_urls
from orchestrator.concurrency.api import urlpatterns as limit_urls
from orchestrator.console import ui
from orchestrator.console.api import urlpatterns as server_urls
from orchestrator.console.site import api_description, api_pages, icon
from orchestrator.events.api import urlpatterns as event_urls
from workqueues.api import urls as queues

api: list[URLPattern | URLResolver] = [
    path("flow_runs/", include(runs.flow_run_urls)),
    path("work_pools/", include(queues.pool_urls)),
    path("deployments/", include(deployment_urls)),
    path("flows/", include(runs.flow_urls)),
    path("logs/", include(runs.log_urls)),
    path("work_queues/", include(queues.queue_urls)),
    path("task_runs/", include(runs.task_run_urls)),
    path("flow_run_states/", include(runs.flow_run_state_urls)),
    path("task_run_states/", include(runs.task_run_state_urls)),
    path("artifacts/", include(runs.artifact_urls)),
    path("saved_searches/", include(runs.saved_search_urls)),
    path("task_workers/", include(runs.task_worker_urls)),
    path("ui/", include(runs.ui_urls)),
    path("ui/", include(schema_urls)),
    path("variables/", include(blocks.variable_urls)),
    path("block_types/", include(blocks.block_type_urls)),
    path("block_schemas/", include(blocks.block_schema_urls)),
    path("block_documents/", include(blocks.block_document_urls)),
    path("block_capabilities/", include(blocks.capability_urls)),
    path("v2/concurrency_limits/", include(limit_urls)),
    path("concurrency_limits/", include(tag_urls)),
    path("automations/", include(automation_urls)),
    path("templates/", include(template_urls)),
    path("collections/", include(queues.collection_urls)),
    path("admin/", include(blocks.storage_urls)),
    path("", include(event_urls)),
    path("", include(account_urls)),
    path("", include(server_urls)),
    path("openapi.json", api_description, name="openapi"),
]
urlpatterns = [
    path("api/", include(api)),
    path("admin/", admin.site.urls),
    path("docs", api_pages, name="docs"),
    path("favicon.ico", icon),
    path("", ui.first_page),
    *ui.urls(),
]

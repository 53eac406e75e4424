"""`/collections`: static documents. Contract: work_pools_queues_workers.md, section 11."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.core.errors import NotFound
from orchestrator.core.viewsets import WireViewSet, documented
from workqueues.worker_types import VIEWS


class CollectionViewSet(WireViewSet):
    @documented(summary="What is known of worker types, blocks and flows")
    def view(self, request: Request, view: str) -> HttpResponse:
        if view not in VIEWS:
            raise NotFound(f"View {view} not found in registry")
        return self.answer(VIEWS[view])

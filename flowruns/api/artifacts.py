"""`/artifacts` and `/saved_searches`. Contract: logs_artifacts_misc.md, sections 2 and 3."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from flowruns import artifacts
from flowruns.filters import LatestArtifactFilter
from flowruns.models import LatestArtifact, SavedSearch
from flowruns.projections import ARTIFACT, LATEST_ARTIFACT, LATEST_AS_ARTIFACT, SAVED_SEARCH
from flowruns.schemas import ArtifactCreate, ArtifactUpdate, SearchBody, SearchPage
from orchestrator.core.errors import NotFound
from orchestrator.core.viewsets import FilterActions, RowViewSet, bounded_limit, documented, writes

SORTS = {
    "CREATED_DESC": ("-created", "pk"),
    "UPDATED_DESC": ("-updated", "pk"),
    "ID_DESC": ("-pk",),
    "KEY_DESC": ("-key", "pk"),
    "KEY_ASC": ("key", "pk"),
}
KEYS = ("artifacts", "flow_runs", "task_runs", "flows", "deployments")


class ArtifactViewSet(FilterActions):
    projection = ARTIFACT
    missing = "Artifact not found."
    keys = KEYS
    sorts = SORTS
    default_sort = "ID_DESC"

    @documented(body=ArtifactCreate, status=201, summary="Keep an artifact; with a key it is the latest of it")
    @writes
    def create(self, request: Request) -> HttpResponse:
        values = self.body(ArtifactCreate).columns()
        shortened = artifacts.shortened(values.get("metadata"))
        artifact = artifacts.create(values | ({"metadata": shortened} if "metadata" in values else {}))
        return self.answer(self.row(artifact.pk), 201)

    def latest(self, request: Request, key: str) -> HttpResponse:
        row = LATEST_AS_ARTIFACT.one(LatestArtifact.objects.filter(key=key).values_list("pk", flat=True).first())
        if row is None:
            raise NotFound(self.missing)
        return self.answer(row)

    @documented(body=ArtifactUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        if not artifacts.change(pk, self.body(ArtifactUpdate).columns()):
            raise NotFound(self.missing)
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        if not artifacts.delete(pk):
            raise NotFound(self.missing)
        return self.nothing()


class LatestArtifactViewSet(FilterActions):
    projection = LATEST_ARTIFACT
    keys = KEYS
    own_filter = LatestArtifactFilter
    sorts = SORTS
    default_sort = "ID_DESC"


class SavedSearchViewSet(RowViewSet):
    reads = frozenset({"filter"})
    projection = SAVED_SEARCH
    missing = "Saved search not found"

    @documented(body=SearchBody, status=201, summary="Keep a search, in place of the one of this name")
    @writes
    def keep(self, request: Request) -> HttpResponse:
        body = self.body(SearchBody)
        filters = [item.model_dump() for item in body.filters]
        found = SavedSearch.objects.filter(name=body.name)
        made = not found.update(filters=filters)
        if made:
            SavedSearch.objects.bulk_create(
                [SavedSearch(name=body.name, filters=filters)],
                update_conflicts=True,
                unique_fields=["name"],
                update_fields=["filters"],
            )
        return self.answer(self.row(found.values_list("pk", flat=True).first()), 201 if made else 200)

    @documented(body=SearchPage)
    def filter(self, request: Request) -> HttpResponse:
        body = self.body(SearchPage)
        limit = bounded_limit(body.limit)
        return self.answer(self.rows(SavedSearch.objects.order_by("name")[body.offset : body.offset + limit]) if limit else [])

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        deleted, _ = SavedSearch.objects.filter(pk=pk).delete()
        if not deleted:
            raise NotFound(self.missing)
        return self.nothing()

"""`/variables`, and the reads of `/block_types` and `/block_documents` that clients make everywhere.

Contract: blocks_variables.md.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.blocks.models import BlockType, Variable
from orchestrator.blocks.schemas import VariableCreate, VariableUpdate
from orchestrator.core.errors import Conflict, NotFound
from orchestrator.core.projection import Projection
from orchestrator.core.routes import filter_routes, route
from orchestrator.core.viewsets import FilterActions, RowViewSet, WireViewSet, documented, writes

VARIABLE = Projection(Variable, {name: name for name in ("id", "created", "updated", "name", "value", "tags")})
BLOCK_TYPE = Projection(
    BlockType,
    {
        name: name
        for name in (
            "id",
            "created",
            "updated",
            "name",
            "slug",
            "logo_url",
            "documentation_url",
            "description",
            "code_example",
            "is_protected",
        )
    },
)


class VariableViewSet(FilterActions):
    projection = VARIABLE
    missing = "Variable not found."
    keys = ("variables",)
    sorts = {
        "CREATED_DESC": ("-created", "pk"),
        "UPDATED_DESC": ("-updated", "pk"),
        "NAME_DESC": ("-name", "pk"),
        "NAME_ASC": ("name", "pk"),
    }
    default_sort = "NAME_ASC"

    @documented(body=VariableCreate, status=201)
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(VariableCreate)
        variable = Variable(name=body.name, value=body.value, tags=body.tags or [])
        try:
            with transaction.atomic():
                variable.save(force_insert=True)
        except IntegrityError:
            raise Conflict(f"A variable with the name '{body.name}' already exists.") from None
        return self.answer(self.row(variable.pk), 201)

    def retrieve_by_name(self, request: Request, name: str) -> HttpResponse:
        return self.answer(self.row(self.chosen(None, name).values_list("pk", flat=True).first()))

    @documented(body=VariableUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID | None = None, name: str = "") -> HttpResponse:
        changes = self.body(VariableUpdate).given()
        variable = self.chosen(pk, name).select_for_update().first()
        if variable is None:
            raise NotFound(self.missing)
        for field, value in changes.items():
            setattr(variable, field, value)
        if changes:
            variable.save(update_fields=[*changes])
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID | None = None, name: str = "") -> HttpResponse:
        deleted, _ = self.chosen(pk, name).delete()
        if not deleted:
            raise NotFound(self.missing)
        return self.nothing()

    def chosen(self, pk: UUID | None, name: str) -> QuerySet[Variable]:
        return Variable.objects.filter(pk=pk) if pk else Variable.objects.filter(name=name)


class BlockTypeViewSet(RowViewSet):
    projection = BLOCK_TYPE
    missing = "Block type not found"

    def retrieve_by_slug(self, request: Request, slug: str) -> HttpResponse:
        return self.answer(self.row(BlockType.objects.filter(slug=slug).values_list("pk", flat=True).first()))


class ResultStorageViewSet(WireViewSet):
    """`/admin/storage`: no block is the default result storage until blocks can be made."""

    def retrieve(self, request: Request) -> HttpResponse:
        storage: dict[str, Any] = {"default_result_storage_block_id": None}
        return self.answer(storage)


variable_urls = [
    route("", VariableViewSet, post="create"),
    *filter_routes(VariableViewSet, "filter", "count"),
    route("<id:pk>", VariableViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("name/<str:name>", VariableViewSet, get="retrieve_by_name", patch="partial_update", delete="destroy"),
]
block_type_urls = [
    route("<id:pk>", BlockTypeViewSet, get="retrieve"),
    route("slug/<str:slug>", BlockTypeViewSet, get="retrieve_by_slug"),
]
storage_urls = [route("storage", ResultStorageViewSet, get="retrieve")]

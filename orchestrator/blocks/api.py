"""`/variables`, `/block_types`, `/block_schemas`, `/block_documents` and `/admin/storage`. Contract: blocks_variables.md."""

from __future__ import annotations

from html import unescape
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from pydantic import TypeAdapter, ValidationError
from rest_framework.request import Request

from orchestrator.blocks import documents, system
from orchestrator.blocks.checksums import checksum
from orchestrator.blocks.models import BlockDocument, BlockSchema, BlockType, ResultStorage, Variable
from orchestrator.blocks.schemas import (
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchemaCreate,
    BlockTypeCreate,
    BlockTypeUpdate,
    StorageUpdate,
    VariableCreate,
    VariableUpdate,
)
from orchestrator.blocks.shapes import SCHEMA_KEYS, TYPE_KEYS
from orchestrator.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unprocessable
from orchestrator.core.projection import Joined, Projection
from orchestrator.core.routes import filter_routes, route
from orchestrator.core.viewsets import FilterActions, WireViewSet, bounded_limit, documented, writes

VARIABLE = Projection(Variable, {name: name for name in ("id", "created", "updated", "name", "value", "tags")})
TYPE_COLUMNS = {name: name for name in TYPE_KEYS}
BLOCK_TYPE = Projection(BlockType, TYPE_COLUMNS)
BLOCK_SCHEMA = Projection(BlockSchema, {name: name for name in SCHEMA_KEYS} | {"block_type": Joined("block_type", TYPE_COLUMNS)})
# What is shown of a document is decrypted and put together; a projection only names its table.
BLOCK_DOCUMENT_KEY = Projection(BlockDocument, {"id": "id"})
DOCUMENTS = BlockDocument.objects.select_related("block_schema__block_type", "block_type")
DOCUMENT = {"type": "object", "properties": {key: {} for key in documents.KEYS}}
BOOLEAN: TypeAdapter[bool] = TypeAdapter(bool)


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


class BlockTypeViewSet(FilterActions):
    projection = BLOCK_TYPE
    missing = "Block type not found"
    keys = ("block_types", "block_schemas")
    ordering = ("name", "pk")

    @documented(body=BlockTypeCreate, status=201)
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(BlockTypeCreate)
        if body.name.lower().startswith("prefect"):
            raise Forbidden("Block type names beginning with 'Prefect' are reserved.")
        block_type = BlockType(**body.model_dump())
        try:
            with transaction.atomic():
                block_type.save(force_insert=True)
        except IntegrityError:
            raise Conflict(f'Block type with name "{body.name}" already exists') from None
        return self.answer(self.row(block_type.pk), 201)

    def retrieve_by_slug(self, request: Request, slug: str) -> HttpResponse:
        return self.answer(self.row(BlockType.objects.filter(slug=slug).values_list("pk", flat=True).first()))

    @documented(body=BlockTypeUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        changes = self.body(BlockTypeUpdate).given()
        block_type = BlockType.objects.select_for_update().filter(pk=pk).first()
        if block_type is None:
            raise NotFound(self.missing)
        # Clients of some versions escape HTML in their docstrings: that is no change.
        different = {name: value for name, value in changes.items() if plain(value) != plain(getattr(block_type, name))}
        for name, value in different.items():
            setattr(block_type, name, value)
        if different:
            block_type.save(update_fields=[*different])
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        block_type = BlockType.objects.filter(pk=pk).first()
        if block_type is None:
            raise NotFound(self.missing)
        if block_type.is_protected:
            raise Forbidden("protected block types cannot be deleted.")
        block_type.delete()
        return self.nothing()

    def documents(self, request: Request, slug: str) -> HttpResponse:
        """The named blocks of a type."""
        if not BlockType.objects.filter(slug=slug).exists():
            raise NotFound(self.missing)
        rows = DOCUMENTS.filter(block_type__slug=slug, is_anonymous=False).order_by("name")[: settings.API_DEFAULT_LIMIT]
        return self.answer(documents.shapes(list(rows), include_secrets=secrets_asked(self, request)))

    def document(self, request: Request, slug: str, name: str) -> HttpResponse:
        row = DOCUMENTS.filter(block_type__slug=slug, name=name).first()
        if row is None:
            raise NotFound("Block document not found")
        return self.answer(documents.shapes([row], include_secrets=secrets_asked(self, request))[0])

    @writes
    def install(self, request: Request) -> HttpResponse:
        system.install()
        return self.answer(None)


def plain(text: str | None) -> str | None:
    return None if text is None else unescape(text)


def secrets_asked(view: WireViewSet, request: Request) -> bool:
    """Whether the address asks for secrets as they are. Raises Forbidden when who asks may not have them."""
    text = request._request.GET.get("include_secrets", "false")
    try:
        asked = BOOLEAN.validate_python(text)
    except ValidationError as error:
        raise InvalidRequest.of(error, None, "query") from None
    if asked:
        view.require("secrets")
    return asked


class BlockSchemaViewSet(FilterActions):
    projection = BLOCK_SCHEMA
    missing = "Block schema not found"
    keys = ("block_schemas",)
    ordering = ("-created", "pk")

    @documented(body=BlockSchemaCreate, status=201)
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(BlockSchemaCreate)
        if not BlockType.objects.filter(pk=body.block_type_id).exists():
            raise NotFound(f"Block type {body.block_type_id} not found.")
        self.check_references(body.fields)
        identity = {"checksum": checksum(body.fields), "version": body.version}
        columns = {
            "fields": {"block_schema_references": {}} | body.fields,
            "block_type_id": body.block_type_id,
            "capabilities": body.capabilities,
        }
        schema, made = BlockSchema.objects.get_or_create(**identity, defaults=columns)
        return self.answer(self.row(schema.pk), 201 if made else 200)

    def check_references(self, fields: dict[str, Any]) -> None:
        """Refuse a schema with fields that are blocks of types nobody knows."""
        given = fields.get("block_schema_references")
        named: list[Any] = []
        for one in given.values() if isinstance(given, dict) else ():
            named += one if isinstance(one, list) else [one]
        slugs = {str(item.get("block_type_slug")) for item in named if isinstance(item, dict)}
        known = set(BlockType.objects.filter(slug__in=slugs).values_list("slug", flat=True)) if slugs else set()
        if missing := sorted(slugs - known):
            raise Conflict(
                f"Cannot create block schema because block type '{missing[0]}' was not found."
                "Did you forget to register the block type?"
            )

    def retrieve_by_checksum(self, request: Request, checksum: str) -> HttpResponse:
        rows = BlockSchema.objects.filter(checksum=checksum)
        if (version := request._request.GET.get("version")) is not None:
            rows = rows.filter(version=version)
        return self.answer(self.row(rows.order_by("-created").values_list("pk", flat=True).first()))

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        schema = BlockSchema.objects.select_related("block_type").filter(pk=pk).first()
        if schema is None:
            raise NotFound(self.missing)
        if schema.block_type.is_protected:
            raise Forbidden("Block schemas for protected block types cannot be deleted.")
        schema.delete()
        return self.nothing()

    def capabilities(self, request: Request) -> HttpResponse:
        """What blocks of any schema can do."""
        lists = BlockSchema.objects.values_list("capabilities", flat=True)
        return self.answer(sorted({item for one in lists for item in one}))


class BlockDocumentViewSet(FilterActions):
    projection = BLOCK_DOCUMENT_KEY
    missing = "Block document not found"
    keys = ("block_documents", "block_types", "block_schemas")
    sorts = {
        "NAME_ASC": ("name", "pk"),
        "NAME_DESC": ("-name", "pk"),
        "BLOCK_TYPE_AND_NAME_ASC": ("block_type__name", "name", "pk"),
    }
    default_sort = "NAME_ASC"

    @classmethod
    def _fields(cls, kind: str) -> dict[str, Any]:
        return super()._fields(kind) | ({"include_secrets": (bool, False)} if kind == "filter" else {})

    def queryset(self) -> QuerySet[BlockDocument]:
        return DOCUMENTS.all()

    def matching(self, body: Any, rows: QuerySet[Any] | None = None) -> QuerySet[Any]:
        found = super().matching(body, rows)
        return found if body.block_documents is not None else found.filter(is_anonymous=False)

    @documented(body=BlockDocumentCreate, answer=DOCUMENT, status=201)
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(BlockDocumentCreate)
        made = documents.create(**body.model_dump())
        return self.answer(self.shown(made.pk, include_secrets=False), 201)

    @documented(answer=DOCUMENT)
    def retrieve(self, request: Request, pk: UUID) -> HttpResponse:
        return self.answer(self.shown(pk, include_secrets=secrets_asked(self, request)))

    def shown(self, pk: UUID, *, include_secrets: bool) -> dict[str, Any]:
        row = DOCUMENTS.filter(pk=pk).first()
        if row is None:
            raise NotFound(self.missing)
        return documents.shapes([row], include_secrets=include_secrets)[0]

    @documented(body=lambda: BlockDocumentViewSet.shape("filter"), answer={"type": "array", "items": DOCUMENT})
    def filter(self, request: Request) -> HttpResponse:
        body: Any = self.body(self.shape("filter"))
        limit, offset = bounded_limit(body.limit), body.offset or 0
        if body.include_secrets:
            self.require("secrets")
        rows = self.ordered(self.matching(body), body)[offset : offset + limit]
        return self.answer(documents.shapes(list(rows), include_secrets=body.include_secrets))

    @documented(body=BlockDocumentUpdate, status=204)
    @writes
    def partial_update(self, request: Request, pk: UUID) -> HttpResponse:
        body = self.body(BlockDocumentUpdate)
        row = BlockDocument.objects.select_for_update(of=("self",)).select_related("block_schema").filter(pk=pk).first()
        if row is None:
            raise NotFound(self.missing)
        documents.update(row, body.data, body.block_schema_id, merge=body.merge_existing_data)
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID) -> HttpResponse:
        deleted, _ = BlockDocument.objects.filter(pk=pk).delete()
        if not deleted:
            raise NotFound(self.missing)
        return self.nothing()


class ResultStorageViewSet(WireViewSet):
    """`/admin/storage`: the block that results are kept in when clients were told nothing else."""

    def retrieve(self, request: Request) -> HttpResponse:
        return self.answer(self.current())

    def current(self) -> dict[str, Any]:
        key = ResultStorage.objects.values_list("document_id", flat=True).first()
        return {"default_result_storage_block_id": key}

    @documented(body=StorageUpdate)
    @writes
    def choose(self, request: Request) -> HttpResponse:
        key = self.body(StorageUpdate).default_result_storage_block_id
        document = BlockDocument.objects.select_related("block_schema").filter(pk=key).first()
        if document is None:
            raise NotFound(f"Block document {key} not found.")
        if "write-path" not in document.block_schema.capabilities:
            raise Unprocessable(f"Block document {key} cannot be used for result storage.")
        ResultStorage.objects.exclude(document=document).delete()
        ResultStorage.objects.get_or_create(document=document)
        return self.answer(self.current())

    @writes
    def destroy(self, request: Request) -> HttpResponse:
        ResultStorage.objects.all().delete()
        return self.nothing()


variable_urls = [
    route("", VariableViewSet, post="create"),
    *filter_routes(VariableViewSet, "filter", "count"),
    route("<id:pk>", VariableViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("name/<str:name>", VariableViewSet, get="retrieve_by_name", patch="partial_update", delete="destroy"),
]
block_type_urls = [
    route("", BlockTypeViewSet, post="create"),
    route("filter", BlockTypeViewSet, post="filter"),
    route("install_system_block_types", BlockTypeViewSet, post="install"),
    route("<id:pk>", BlockTypeViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    route("slug/<str:slug>", BlockTypeViewSet, get="retrieve_by_slug"),
    route("slug/<str:slug>/block_documents", BlockTypeViewSet, get="documents"),
    route("slug/<str:slug>/block_documents/name/<str:name>", BlockTypeViewSet, get="document"),
]
block_schema_urls = [
    route("", BlockSchemaViewSet, post="create"),
    route("filter", BlockSchemaViewSet, post="filter"),
    route("<id:pk>", BlockSchemaViewSet, get="retrieve", delete="destroy"),
    route("checksum/<str:checksum>", BlockSchemaViewSet, get="retrieve_by_checksum"),
]
block_document_urls = [
    route("", BlockDocumentViewSet, post="create"),
    *filter_routes(BlockDocumentViewSet, "filter", "count"),
    route("<id:pk>", BlockDocumentViewSet, get="retrieve", patch="partial_update", delete="destroy"),
]
capability_urls = [route("", BlockSchemaViewSet, get="capabilities")]
storage_urls = [route("storage", ResultStorageViewSet, get="retrieve", put="choose", delete="destroy")]

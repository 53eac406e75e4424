"""Blocks made of blocks: stored apart, shown as one. Contract: blocks_variables.md, section 5."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from orchestrator.blocks.masking import masked, restored
from orchestrator.blocks.models import BlockDocument, BlockReference, BlockSchema, BlockType
from orchestrator.blocks.shapes import schema_shape, type_shape
from orchestrator.core.errors import INTEGRITY, BadRequest, Conflict, NotFound

MAX_DEPTH = 50
KEYS = (
    "id",
    "created",
    "updated",
    "name",
    "data",
    "block_schema_id",
    "block_schema",
    "block_type_id",
    "block_type_name",
    "block_type",
    "block_document_references",
    "is_anonymous",
)
REFERENCE = "$ref"

Data = dict[str, Any]
Shown = dict[str, Any]


def split(data: Data) -> tuple[Data, dict[str, UUID]]:
    """What is stored as it is, and the blocks that fields refer to. Raises BadRequest."""
    plain: Data = {}
    references: dict[str, UUID] = {}
    for name, value in data.items():
        if isinstance(value, dict) and set(value) == {REFERENCE} and isinstance(value[REFERENCE], dict):
            references[name] = referred(name, value[REFERENCE])
        else:
            plain[name] = value
    return plain, references


def referred(name: str, reference: Data) -> UUID:
    key = reference.get("block_document_id")
    if not key:
        raise BadRequest(f"Received block reference without a block_document_id in key {name}")
    try:
        return UUID(str(key))
    except ValueError:
        raise BadRequest(f"Received block reference with an invalid block_document_id in key {name}") from None


def create(*, name: str | None, data: Data, block_type_id: UUID, block_schema_id: UUID, is_anonymous: bool) -> BlockDocument:
    """A new block. Raises Conflict for a name that is taken or a schema that is not there, NotFound for the type."""
    if not BlockType.objects.filter(pk=block_type_id).exists():
        raise NotFound(f"Block type {block_type_id} not found.")
    if not BlockSchema.objects.filter(pk=block_schema_id).exists():
        raise Conflict(INTEGRITY)
    plain, references = split(data)
    document = BlockDocument(
        name=name or f"anonymous-{uuid4()}",
        block_type_id=block_type_id,
        block_schema_id=block_schema_id,
        is_anonymous=is_anonymous,
    )
    document.data = plain
    try:
        with transaction.atomic():
            document.save(force_insert=True)
    except IntegrityError:
        raise Conflict("Block already exists") from None
    refer(document, references)
    return document


def update(document: BlockDocument, data: Data | None, block_schema_id: UUID | None, *, merge: bool) -> None:
    """Change what a locked block holds. Fields that are blocks must be given again, or they are none any more."""
    if block_schema_id is not None and block_schema_id != document.block_schema_id:
        schema = BlockSchema.objects.filter(pk=block_schema_id).first()
        if schema is None or schema.block_type_id != document.block_type_id:
            raise BadRequest("Must migrate block document to a block schema of the same block type.")
        if data is not None:
            document.block_schema = schema
    if data is None:
        return
    plain, references = split(data)
    stored = document.data
    plain = restored(plain, stored, document.block_schema.fields.get("secret_fields") or [])
    document.data = {**stored, **plain} if merge else plain
    document.save(update_fields=["encrypted", "block_schema"])
    BlockReference.objects.filter(parent=document).delete()
    refer(document, references)


def refer(document: BlockDocument, references: dict[str, UUID]) -> None:
    """Write down which blocks fields refer to. Raises BadRequest for a circle, Conflict for a block that is not there."""
    if not references:
        return
    known = set(BlockDocument.objects.filter(pk__in=references.values()).values_list("pk", flat=True))
    if missing := set(references.values()) - known:
        raise Conflict(f"{INTEGRITY} No block document {sorted(map(str, missing))[0]}.")
    if document.pk in reachable(known):
        raise BadRequest(f"Cannot create block document reference: it would introduce a cycle with block document {document.pk}.")
    rows = [BlockReference(parent=document, field=field, child_id=child) for field, child in references.items()]
    BlockReference.objects.bulk_create(rows)


def reachable(start: Iterable[UUID]) -> set[UUID]:
    """These blocks and all they refer to, directly or not."""
    found = set(start)
    frontier = found
    while frontier:
        below = BlockReference.objects.filter(parent__in=frontier).values_list("child_id", flat=True)
        frontier = set(below) - found
        found |= frontier
    return found


def shapes(documents: Sequence[BlockDocument], *, include_secrets: bool) -> list[Shown]:
    """Blocks as the wire shows them. They are given with schema and type; a query for each level of blocks in blocks."""
    families = below(documents)
    return [shape(document, families, include_secrets) for document in documents]


Families = dict[UUID, list[tuple[str, BlockDocument]]]


def below(documents: Sequence[BlockDocument]) -> Families:
    """For every block that these are made of: its fields that are blocks."""
    families: Families = {}
    frontier = {document.pk for document in documents}
    for _ in range(MAX_DEPTH):
        asked = frontier - set(families)
        if not asked:
            break
        families |= {key: [] for key in asked}
        rows = BlockReference.objects.filter(parent__in=asked).select_related(
            "child__block_schema__block_type", "child__block_type"
        )
        frontier = set()
        for row in rows.order_by("field"):
            families[row.parent_id].append((row.field, row.child))
            frontier.add(row.child_id)
    return families


def shape(document: BlockDocument, families: Families, include_secrets: bool) -> Shown:
    return {
        "id": document.pk,
        "created": document.created,
        "updated": document.updated,
        "name": document.name,
        "data": whole_data(document, families, include_secrets),
        "block_schema_id": document.block_schema_id,
        "block_schema": schema_shape(document.block_schema),
        "block_type_id": document.block_type_id,
        "block_type_name": document.block_type.name,
        "block_type": type_shape(document.block_type),
        "block_document_references": references_of(document, families),
        "is_anonymous": document.is_anonymous,
    }


def whole_data(document: BlockDocument, families: Families, include_secrets: bool) -> Data:
    data = document.data
    for field, child in families.get(document.pk, ()):
        data[field] = whole_data(child, families, include_secrets)
    return data if include_secrets else masked(data, document.block_schema.fields.get("secret_fields") or [])


def references_of(document: BlockDocument, families: Families) -> Shown:
    return {
        field: {
            "block_document": {
                "id": child.pk,
                "name": child.name,
                "block_type": type_shape(child.block_type),
                "is_anonymous": child.is_anonymous,
                "block_document_references": references_of(child, families),
            }
        }
        for field, child in families.get(document.pk, ())
    }

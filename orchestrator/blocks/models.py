"""Named values that deployments are filled from. A variable is a block without a schema."""

from __future__ import annotations

from typing import Any

from django.db import models

from orchestrator.core import encryption
from orchestrator.core.fields import TagsField, TagsIndex
from orchestrator.core.rows import Row


class BlockType(Row):
    """A kind of block. Source: blocks_variables.md, section 3."""

    name = models.TextField()
    slug = models.TextField(unique=True)
    logo_url = models.TextField(null=True, blank=True)
    documentation_url = models.TextField(null=True, blank=True)
    description = models.TextField(null=True, blank=True)
    code_example = models.TextField(null=True, blank=True)
    is_protected = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["name"], name="block_type_name")]

    def __str__(self) -> str:
        return self.name


class BlockSchema(Row):
    """The fields of a kind of block, as one version of its class has them. Source: blocks_variables.md, section 4."""

    block_type = models.ForeignKey(BlockType, models.CASCADE, related_name="schemas")
    checksum = models.TextField()
    fields = models.JSONField(default=dict)
    capabilities = TagsField()
    version = models.TextField(default="non-versioned")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["checksum", "version"], name="one_block_schema_per_version")]
        indexes = [
            models.Index(fields=["created"], name="block_schema_created"),
            TagsIndex(fields=["capabilities"], name="block_schema_capabilities"),
        ]

    def __str__(self) -> str:
        return self.checksum


class BlockDocument(Row):
    """A block. Its data, which may hold secrets, is encrypted at rest. Source: blocks_variables.md, section 5."""

    block_type = models.ForeignKey(BlockType, models.CASCADE, related_name="documents", db_index=False)
    block_schema = models.ForeignKey(BlockSchema, models.CASCADE, related_name="documents")
    name = models.TextField()
    encrypted = models.TextField(editable=False, default="")
    is_anonymous = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["block_type", "name"], name="one_block_document_per_name")]
        indexes = [models.Index(fields=["name"], name="block_document_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def data(self) -> dict[str, Any]:
        """What the block holds, but for the blocks it refers to."""
        return dict(encryption.opened(self.encrypted)) if self.encrypted else {}

    @data.setter
    def data(self, value: dict[str, Any]) -> None:
        self.encrypted = encryption.sealed(value)


class BlockReference(Row):
    """A field of a block that is another block."""

    parent = models.ForeignKey(BlockDocument, models.CASCADE, related_name="references", db_index=False)
    field = models.TextField()
    child = models.ForeignKey(BlockDocument, models.CASCADE, related_name="referred_by")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["parent", "field"], name="one_block_per_field")]

    def __str__(self) -> str:
        return self.field


class ResultStorage(Row):
    """The block that clients keep results in when they were told nothing else; there is one at most."""

    document = models.OneToOneField(BlockDocument, models.CASCADE, related_name="+")

    def __str__(self) -> str:
        return str(self.document)


class Variable(Row):
    """A named JSON value. Source: blocks_variables.md, section 2."""

    name = models.TextField(unique=True)
    value = models.JSONField(null=True)
    tags = TagsField()

    def __str__(self) -> str:
        return self.name

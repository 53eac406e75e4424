"""Named values that deployments are filled from. A variable is a block without a schema."""

from __future__ import annotations

from django.db import models

from orchestrator.core.fields import TagsField
from orchestrator.core.rows import Row


class BlockType(Row):
    name = models.TextField()
    slug = models.TextField(unique=True)
    logo_url = models.TextField(null=True, blank=True)
    documentation_url = models.TextField(null=True, blank=True)
    description = models.TextField(null=True, blank=True)
    code_example = models.TextField(null=True, blank=True)
    is_protected = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name


class BlockSchema(Row):
    block_type = models.ForeignKey(BlockType, models.CASCADE, related_name="schemas")
    checksum = models.TextField()
    fields = models.JSONField(default=dict)
    capabilities = models.JSONField(default=list)
    version = models.TextField(default="non-versioned")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["checksum", "version"], name="one_block_schema_per_version")]

    def __str__(self) -> str:
        return self.checksum


class BlockDocument(Row):
    block_type = models.ForeignKey(BlockType, models.CASCADE, related_name="documents")
    block_schema = models.ForeignKey(BlockSchema, models.CASCADE, related_name="documents")
    name = models.TextField()
    data = models.JSONField(default=dict)
    is_anonymous = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["block_type", "name"], name="one_block_document_per_name")]

    def __str__(self) -> str:
        return self.name


class Variable(Row):
    """A named JSON value. Source: blocks_variables.md, section 2."""

    name = models.TextField(unique=True)
    value = models.JSONField(null=True)
    tags = TagsField()

    def __str__(self) -> str:
        return self.name

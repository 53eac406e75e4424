"""Flows: what is run."""

from __future__ import annotations

from django.db import models

from orchestrator.core.fields import TagsField, TagsIndex
from orchestrator.core.rows import Row


class Flow(Row):
    """A flow, known by its name. Source: flows_deployments.md, section 1."""

    name = models.TextField(unique=True)
    tags = TagsField()
    labels = models.JSONField(default=dict, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["created"], name="flow_created"),
            models.Index(fields=["updated"], name="flow_updated"),
            TagsIndex(fields=["tags"], name="flow_tags"),
        ]

    def __str__(self) -> str:
        return self.name

"""What to do about what happened."""

from __future__ import annotations

from django.db import models

from orchestrator.core.fields import TagsField
from orchestrator.core.rows import Row


class Automation(Row):
    """A trigger and its actions. Source: events_automations.md, section 7."""

    name = models.TextField()
    description = models.TextField(default="", blank=True)
    enabled = models.BooleanField(default=True)
    tags = TagsField()
    trigger = models.JSONField()
    actions = models.JSONField(default=list)
    actions_on_trigger = models.JSONField(default=list, blank=True)
    actions_on_resolve = models.JSONField(default=list, blank=True)
    owner_resource = models.TextField(null=True, blank=True, db_index=True)

    def __str__(self) -> str:
        return self.name

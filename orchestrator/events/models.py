"""What happened."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from orchestrator.core.fields import TagsField, TagsIndex


class Event(models.Model):
    """Something that happened to a resource. Source: events_automations.md, section 1.

    `position` is the order in which events were stored, by which others follow them; `id` is the sender's and is what
    makes an event that is sent twice one. `resource_ids` repeats the ids of the resource and of all related ones.
    """

    position = models.BigAutoField(primary_key=True)
    id = models.UUIDField(unique=True)
    occurred = models.DateTimeField()
    received = models.DateTimeField(default=timezone.now)
    event = models.TextField()
    resource_id = models.TextField()
    resource = models.JSONField()
    related = models.JSONField(default=list)
    payload = models.JSONField(default=dict)
    follows = models.UUIDField(null=True)
    resource_ids = TagsField()

    class Meta:
        indexes = [
            # Lists and pages in time; retention.
            models.Index(fields=["occurred"], name="event_occurred"),
            models.Index(fields=["event", "occurred"], name="event_name"),
            models.Index(fields=["resource_id", "occurred"], name="event_resource"),
            TagsIndex(fields=["resource_ids"], name="event_resources"),
        ]

    def __str__(self) -> str:
        return self.event

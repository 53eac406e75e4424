"""What to do about what happened."""

from __future__ import annotations

from uuid import uuid4

from django.db import models
from django.utils import timezone

from orchestrator.core.fields import TagsField, TagsIndex
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

    class Meta:
        indexes = [
            models.Index(fields=["name"], name="automation_name"),
            models.Index(fields=["created"], name="automation_created"),
            models.Index(fields=["updated"], name="automation_updated"),
            TagsIndex(fields=["tags"], name="automation_tags"),
        ]

    def __str__(self) -> str:
        return self.name


class Bucket(models.Model):
    """What one trigger of an automation has counted for one set of labels."""

    automation = models.ForeignKey(Automation, models.CASCADE, related_name="buckets", db_index=False)
    trigger_id = models.UUIDField()
    # The values of the trigger's `for_each` labels, as JSON text.
    labels = models.TextField()
    start = models.DateTimeField()
    end = models.DateTimeField()
    count = models.IntegerField(default=0)
    last_event = models.JSONField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["automation", "trigger_id", "labels"], name="one_bucket_per_key")]
        indexes = [models.Index(fields=["end"], name="bucket_end")]

    def __str__(self) -> str:
        return f"{self.count} {self.labels}"


class Firing(models.Model):
    """The latest firing of a child of a composite trigger, kept until its parent fires."""

    automation = models.ForeignKey(Automation, models.CASCADE, related_name="firings", db_index=False)
    parent_id = models.UUIDField()
    child_id = models.UUIDField()
    at = models.DateTimeField()
    event = models.JSONField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["automation", "parent_id", "child_id"], name="one_firing_per_child")]

    def __str__(self) -> str:
        return str(self.child_id)


class PendingAction(models.Model):
    """An action that is to be done. It goes in the transaction that does it."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    automation = models.ForeignKey(Automation, models.CASCADE, related_name="pending_actions", db_index=False)
    place = models.IntegerField()
    action = models.JSONField()
    # What fired: labels, event, kind of trigger and posture, and the event that told of it.
    firing = models.JSONField()
    due = models.DateTimeField(default=timezone.now)
    attempts = models.IntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["due"], name="pending_action_due")]

    def __str__(self) -> str:
        return str(self.action.get("type"))


class Evaluated(models.Model):
    """How far events have been evaluated; its one row is also the lock of who evaluates."""

    position = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.position)

"""How many at once, of anything."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models

from orchestrator.core.rows import Row

# The name of the limit of a tag.
TAG_PREFIX = "tag:"


class ConcurrencyLimit(Row):
    """A named number of slots. Source: concurrency_limits.md, section 1."""

    name = models.TextField(unique=True)
    limit = models.IntegerField(validators=[MinValueValidator(0)])
    active = models.BooleanField(default=True)
    active_slots = models.IntegerField(default=0, validators=[MinValueValidator(0)])
    denied_slots = models.IntegerField(default=0, validators=[MinValueValidator(0)])
    slot_decay_per_second = models.FloatField(default=0, validators=[MinValueValidator(0)])
    avg_slot_occupancy_seconds = models.FloatField(default=2.0)

    def __str__(self) -> str:
        return self.name


class Lease(Row):
    """Slots of some limits, held by somebody until a moment."""

    limits = models.ManyToManyField(ConcurrencyLimit, related_name="leases")
    slots = models.IntegerField(default=1)
    holder_type = models.TextField(null=True, blank=True)
    holder_id = models.UUIDField(null=True, blank=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        indexes = [models.Index(fields=["holder_type", "holder_id"], name="lease_holder")]

    def __str__(self) -> str:
        return f"{self.slots} for {self.holder_type}"

"""What every table has: a UUID key and the times of its making and last change."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db import models
from django.utils import timezone


class Row(models.Model):
    """A row with a random UUID key, `created` and `updated`. `updated` moves on every save."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    created = models.DateTimeField(default=timezone.now, editable=False)
    updated = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        if not self._state.adding:
            self.updated = timezone.now()
            if (fields := options.get("update_fields")) is not None:
                options["update_fields"] = {*fields, "updated"}
        super().save(*args, **options)

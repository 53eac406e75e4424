"""Background loops over events."""

from __future__ import annotations

import logging

from django.conf import settings
from django.utils import timezone

from orchestrator.core.databases import in_one_transaction
from orchestrator.core.loops import Loop
from orchestrator.events.models import Event

CHUNK = 1_000

log = logging.getLogger(__name__)


class EventRetention(Loop):
    """Deletes events that are older than they are kept for (contract: events_automations.md, section 2)."""

    name = "event-retention"
    interval_seconds = 3_600.0

    def poll(self) -> float:
        if "events" not in settings.VACUUM_ENABLED:
            return self.interval_seconds
        old = Event.objects.filter(occurred__lt=timezone.now() - settings.EVENTS_RETENTION)
        keys = list(old.order_by("occurred").values_list("pk", flat=True)[:CHUNK])
        if keys:
            in_one_transaction(lambda: Event.objects.filter(pk__in=keys).delete())
            log.info("%d events were older than they are kept for", len(keys))
        return 0 if len(keys) == CHUNK else self.interval_seconds

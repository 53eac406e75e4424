"""Events as the wire shows them (contract: events_automations.md, section 1)."""

from __future__ import annotations

from orchestrator.core.projection import Projection
from orchestrator.events.models import Event

KEYS = ("occurred", "event", "resource", "related", "payload", "id", "follows", "received")
EVENT = Projection(Event, {name: name for name in KEYS})

"""How events come to be stored: those of clients in batches, those of this server beside what they tell of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from orchestrator.core import json_body
from orchestrator.core.databases import in_one_transaction, rows_of_json, written
from orchestrator.core.prepared import insert
from orchestrator.events import feed
from orchestrator.events.filters import ID
from orchestrator.events.models import Event
from orchestrator.events.schemas import EventBody

log = logging.getLogger(__name__)

Labels = dict[str, str]
Recorder = Callable[[Sequence[EventBody]], None]

COLUMNS = {
    "id": "uuid",
    "occurred": "timestamptz",
    "event": "text",
    "resource_id": "text",
    "resource": "jsonb",
    "related": "jsonb",
    "payload": "jsonb",
    "follows": "uuid",
    "resource_ids": "jsonb",
}


def emit(
    *,
    id: UUID,
    event: str,
    occurred: datetime,
    resource: Labels,
    related: Sequence[Labels] = (),
    payload: Mapping[str, Any] | None = None,
    follows: UUID | None = None,
) -> None:
    """Store an event of this server, in the transaction of what it tells of: both are there, or neither."""
    row = Event(
        id=id,
        event=event,
        occurred=occurred,
        resource_id=resource[ID],
        resource=resource,
        related=list(related),
        payload=payload or {},
        follows=follows,
        resource_ids=all_ids(resource, related),
    )
    insert(row)
    transaction.on_commit(feed.hint)


def all_ids(resource: Labels, related: Sequence[Labels]) -> list[str]:
    return list(dict.fromkeys([resource[ID], *(one[ID] for one in related)]))


def store(events: Sequence[EventBody]) -> None:
    """Store events of clients, each once whatever how often it is sent, and let the recorders have the new ones.

    One transaction for all. Where the database refuses, each event is tried by itself, and the refused one is dropped
    and logged. Raises OperationalError when the database is away.
    """
    if not events:
        return
    try:
        in_one_transaction(lambda: store_together(events))
    except (OperationalError, InterfaceError):
        raise  # the database is away or busy: no event's fault
    except Exception as error:
        if len(events) == 1:
            # In ASCII: what the database refused may be in the message.
            log.warning("Event %s is dropped: %s", events[0].id, ascii(error)[:500])
            return
        middle = len(events) // 2
        store(events[:middle])
        store(events[middle:])
    else:
        feed.hint()


def store_together(events: Sequence[EventBody]) -> None:
    """A fixed number of statements for the events, and what the recorders need. Joins the caller's transaction."""
    new = insert_new(events)
    fresh = [event for event in events if event.id in new]
    for name in settings.EVENT_RECORDERS if fresh else ():
        record: Recorder = import_string(name)
        record(fresh)


def insert_new(events: Sequence[EventBody]) -> set[UUID]:
    """The ids of those events that were not stored before."""
    now = written(timezone.now())
    rows = [
        [
            event.id,
            written(event.occurred),
            event.event,
            event.resource[ID],
            event.resource,
            event.related,
            event.payload,
            event.follows,
            all_ids(event.resource, event.related),
        ]
        for event in events
    ]
    names = ", ".join(COLUMNS)
    picked = ", ".join(f"given.{name}" for name in COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Event._meta.db_table} ({names}, received) "  # noqa: S608
            f"SELECT {picked}, %s FROM {rows_of_json(COLUMNS, 'given')} WHERE 1 = 1 ON CONFLICT DO NOTHING RETURNING id",
            [now, json_body.dump(rows).decode()],
        )
        return {key if isinstance(key, UUID) else UUID(key) for (key,) in cursor.fetchall()}

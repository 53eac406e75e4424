"""Events as they arrive, for those who listen in this process.

The table is the truth: one thread reads what was stored since it last looked, whoever stored it. It looks at once when this
process has stored something, and else four times a second. It exists only while somebody listens.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django.db.models import Q

from orchestrator.core import json_body
from orchestrator.events.models import Event

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
AT_ONCE = 1_000
BACKLOG = 2_000
# Positions are given before they are committed: one that is missing may still come, for this long.
GAP_SECONDS = 10.0
MAX_GAPS = 5_000
LOOK_BACK = 200

Match = Callable[[dict[str, Any]], bool]
Arrived = tuple[dict[str, Any], str]


class Cursor:
    """How far the table has been read, and which positions are still missing before that."""

    def __init__(self) -> None:
        seen = sorted(Event.objects.order_by("-position").values_list("position", flat=True)[:LOOK_BACK])
        self.last = seen[-1] if seen else 0
        self.gaps: dict[int, float] = {}
        if seen:
            self.note_missing(range(seen[0], self.last), set(seen))

    def note_missing(self, positions: range, found: set[int]) -> None:
        until = time.monotonic() + GAP_SECONDS
        if len(positions) <= MAX_GAPS:
            self.gaps |= {position: until for position in positions if position not in found}

    def new(self) -> list[Event]:
        """The events that were committed since the last look; at most AT_ONCE."""
        now = time.monotonic()
        self.gaps = {position: until for position, until in self.gaps.items() if until > now}
        after = Q(position__gt=self.last)
        asked = after | Q(position__in=list(self.gaps)) if self.gaps else after
        rows = list(Event.objects.filter(asked).order_by("position")[:AT_ONCE])
        found = {row.position for row in rows}
        for position in found:
            self.gaps.pop(position, None)
        if rows and rows[-1].position > self.last:
            self.note_missing(range(self.last + 1, rows[-1].position), found)
            self.last = rows[-1].position
        return rows


class Subscription:
    """One listener: a bounded backlog; what does not fit is dropped, as for a client that does not read."""

    def __init__(self, matches: Match, loop: asyncio.AbstractEventLoop) -> None:
        self.matches = matches
        self.loop = loop
        self.backlog: deque[Arrived | None] = deque()
        self.ready = asyncio.Event()

    def offer(self, arrived: list[Arrived]) -> None:
        room = BACKLOG - len(self.backlog)
        if len(arrived) > room:
            log.warning("A subscriber is too slow: %d events are dropped", len(arrived) - room)
        self.backlog.extend(arrived[:room])
        self.ready.set()

    def end(self) -> None:
        self.backlog.append(None)
        self.ready.set()

    async def next(self) -> Arrived | None:
        """The next event, as values and as the wire's text; None when the subscription has ended."""
        while not self.backlog:
            self.ready.clear()
            await self.ready.wait()
        return self.backlog.popleft()


class Feed:
    def __init__(self) -> None:
        self.subscriptions: set[Subscription] = set()
        self.lock = threading.Lock()
        self.woken = threading.Event()
        self.reader: threading.Thread | None = None

    def subscribe(self, subscription: Subscription) -> None:
        """Everything that is committed from now on is offered to the subscription. Reads the database."""
        with self.lock:
            self.subscriptions.add(subscription)
            if self.reader is None:
                self.reader = threading.Thread(target=self.read, args=(Cursor(),), name="event-feed", daemon=True)
                self.reader.start()

    def unsubscribe(self, subscription: Subscription) -> None:
        with self.lock:
            self.subscriptions.discard(subscription)
        self.woken.set()

    def read(self, cursor: Cursor) -> None:
        more = False
        while True:
            if not more:
                self.woken.wait(LOOK_SECONDS)
            self.woken.clear()
            with self.lock:
                if not self.subscriptions:
                    self.reader = None
                    connections.close_all()
                    return
            try:
                close_old_connections()
                rows = cursor.new()
            except (DatabaseError, InterfaceError) as error:
                log.warning("Events cannot be read now: %s", error)
                connections.close_all()
                more = False
                continue
            more = len(rows) == AT_ONCE
            if rows:
                self.deliver(rows)

    def deliver(self, rows: list[Event]) -> None:
        with self.lock:
            listeners = list(self.subscriptions)
        events = [wire(row) for row in rows]
        texts: dict[int, str] = {}
        for listener in listeners:
            wanted = []
            for i, event in enumerate(events):
                if listener.matches(event):
                    texts.setdefault(i, json_body.dump(event).decode())
                    wanted.append((event, texts[i]))
            if wanted:
                listener.loop.call_soon_threadsafe(listener.offer, wanted)


def wire(row: Event) -> dict[str, Any]:
    """An event as the wire shows it, with its times and ids as values."""
    return {
        "occurred": row.occurred,
        "event": row.event,
        "resource": row.resource,
        "related": row.related,
        "payload": row.payload,
        "id": row.id,
        "follows": row.follows,
        "received": row.received,
    }


FEED = Feed()


def hint() -> None:
    """Something was stored: look now."""
    if FEED.reader is not None:
        FEED.woken.set()

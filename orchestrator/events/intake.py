"""The queue between websockets and the database: many events, one transaction.

Memory is bounded: a socket whose events find the queue full is not read until there is room.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import orjson
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from pydantic import ValidationError

from orchestrator.core import json_body
from orchestrator.events import recording
from orchestrator.events.schemas import EventBody

log = logging.getLogger(__name__)

CAPACITY = 5_000
BATCH = 500
# How long the writer tries again while the database is away, before it gives a batch up.
PATIENCE_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 5.0

Store = Callable[[Sequence[EventBody]], None]
Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Intake:
    """Takes events as text from any number of event loops, and stores them on a thread of its own."""

    def __init__(self, store: Store = recording.store, capacity: int = CAPACITY, batch: int = BATCH) -> None:
        self.store = store
        self.capacity = capacity
        self.batch = batch
        self.waiting: deque[str] = deque()
        self.blocked: list[Waiter] = []
        self.changed = threading.Condition()
        self.ending = False
        self.writer = threading.Thread(target=self.write, name="events", daemon=True)
        self.writer.start()

    async def put(self, text: str) -> None:
        """Hand over one event; wait while the queue is full."""
        loop = asyncio.get_running_loop()
        while True:
            with self.changed:
                if len(self.waiting) < self.capacity:
                    self.waiting.append(text)
                    self.changed.notify()
                    return
                room = loop.create_future()
                self.blocked.append((loop, room))
            await room

    def write(self) -> None:
        """Store batch after batch, until told to end and nothing is left."""
        while texts := self.next_batch():
            close_old_connections()
            self.store_patiently([event for text in texts if (event := parsed(text)) is not None])
        connections.close_all()

    def next_batch(self) -> list[str]:
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.ending)
            texts = [self.waiting.popleft() for _ in range(min(self.batch, len(self.waiting)))]
            released, self.blocked = self.blocked, []
        for loop, room in released:
            loop.call_soon_threadsafe(settle, room)
        return texts

    def store_patiently(self, events: list[EventBody]) -> None:
        pause, deadline = 0.1, time.monotonic() + PATIENCE_SECONDS
        while events:
            try:
                self.store(events)
                return
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    log.error("%d events are lost, the database is away: %s", len(events), error)
                    return
                log.warning("%d events wait for the database: %s", len(events), error)
                connections.close_all()
                time.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    def finish(self) -> None:
        """Store what is left, then end."""
        with self.changed:
            self.ending = True
            self.changed.notify()
        self.writer.join()


def settle(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)


def parsed(text: str) -> EventBody | None:
    """The event of a frame; None for what is none, which is logged and dropped, for its sender would send it again."""
    if len(text) > settings.EVENTS_MAX_BYTES:
        log.warning("An event of %d characters is too large and dropped", len(text))
        return None
    try:
        return EventBody.model_validate(json_body.parse(text.encode("utf-8", "replace"), strip_nul=True))
    except (json_body.InvalidJson, ValidationError, orjson.JSONDecodeError) as error:
        log.warning("What is not an event is dropped: %s", str(error)[:500])
        return None


_current: Intake | None = None
_making = threading.Lock()


def current() -> Intake:
    """The intake of this process, made on first use: a thread does not survive a fork."""
    global _current
    with _making:
        if _current is None:
            _current = Intake()
    return _current


def finish() -> None:
    """Store what the intake of this process still holds."""
    if _current is not None:
        _current.finish()

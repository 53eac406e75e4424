"""`/events/in` and `/events/out`. Contract: events_automations.md, section 3."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from django.db import close_old_connections
from pydantic import ValidationError

from orchestrator.core import json_body
from orchestrator.events import intake
from orchestrator.events.feed import FEED, Subscription
from orchestrator.events.filters import EventFilter, OccurredFilter, Order
from orchestrator.events.projections import EVENT
from orchestrator.server.sockets import PROTOCOL_ERROR, Socket

PAGE = 250
THREADS = 4

Result = TypeVar("Result")


@cache
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="socket")


async def on_a_thread(work: Callable[[], Result]) -> Result:
    """What `work` returns, done where it may wait for the database."""

    def done() -> Result:
        close_old_connections()
        return work()

    return await asyncio.get_running_loop().run_in_executor(threads(), done)


async def take_in(socket: Socket) -> None:
    """Every frame is an event; nothing is answered."""
    while True:
        await intake.current().put(await socket.text())


async def asked_filter(socket: Socket, shape: Any) -> tuple[Any, dict[str, Any]]:
    """The filter that a listener sends first, and its whole message. Closes the socket on anything else."""
    message = await socket.message()
    if message.get("type") != "filter":
        await socket.close(PROTOCOL_ERROR, "Expected 'filter' message")
    try:
        return shape.model_validate(message.get("filter") or {}), message
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        await socket.close(PROTOCOL_ERROR, f"Invalid filter: {where}: {first['msg']}")
        raise AssertionError("unreachable") from None


async def send_out(socket: Socket) -> None:
    """What was stored and matches, oldest first, and then what arrives."""
    asked, message = await asked_filter(socket, EventFilter)
    since = max(asked.occurred.since, datetime.now(UTC) - settings.EVENTS_BACKFILL)
    asked = asked.model_copy(update={"occurred": OccurredFilter(since=since, until=asked.occurred.until), "order": Order.ASC})
    subscription = Subscription(asked.matches, asyncio.get_running_loop())
    if settings.EVENTS_STREAM_OUT:
        await on_a_thread(lambda: FEED.subscribe(subscription))
    gone = asyncio.create_task(socket.until_closed())
    gone.add_done_callback(lambda _: subscription.end())
    try:
        sent = await backfilled(socket, asked) if message.get("backfill", True) else set()
        while (arrived := await subscription.next()) is not None:
            event, text = arrived
            if str(event["id"]) not in sent:
                await socket.send(f'{{"type":"event","event":{text}}}')
    finally:
        gone.cancel()
        FEED.unsubscribe(subscription)


async def backfilled(socket: Socket, asked: EventFilter) -> set[str]:
    """Send the stored events that match; their ids."""
    sent: set[str] = set()
    while True:
        start = len(sent)
        rows = await on_a_thread(lambda start=start: EVENT.many(asked.select()[start : start + PAGE]))  # type: ignore[misc]
        for row in rows:
            await socket.send('{"type":"event","event":' + json_body.dump(row).decode() + "}")
        sent |= {row["id"] for row in rows}
        if len(rows) < PAGE:
            return sent

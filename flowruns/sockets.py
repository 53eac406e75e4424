"""`/logs/out` and `/task_runs/subscriptions/scheduled`. Contract: ui_and_misc_endpoints.md, sections 8 and 9."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from django.utils import timezone

from flowruns import deliveries
from flowruns.filters import LogFilter
from flowruns.models import Log
from flowruns.projections import LOG, TASK_RUN
from orchestrator.core import json_body
from orchestrator.events.sockets import asked_filter, on_a_thread
from orchestrator.server.sockets import Closed, Socket

LOOK_SECONDS = 0.5
# Lines are committed some time after they are stamped: each look goes back this far, past those already sent.
LOOK_BACK = timedelta(seconds=5)
MAX_LINES = 2_000
VIOLATION = 4001
RENEW_SECONDS = 10.0


async def logs_out(socket: Socket) -> None:
    """Lines that match, as they are stored; none from before."""
    asked, _ = await asked_filter(socket, LogFilter.shape())
    started = timezone.now()
    gone = asyncio.create_task(socket.until_closed())
    sent: dict[str, Any] = {}
    try:
        while not gone.done():
            since = max(started, timezone.now() - LOOK_BACK)
            for row in await on_a_thread(lambda since=since: new_lines(asked, since)):  # type: ignore[misc]
                if row["id"] not in sent:
                    sent[row["id"]] = row["created"]
                    await socket.send('{"type":"log","log":' + json_body.dump(row).decode() + "}")
            horizon = (timezone.now() - 2 * LOOK_BACK).strftime("%Y-%m-%dT%H:%M:%S")
            sent = {key: created for key, created in sent.items() if created > horizon}
            await asyncio.wait({gone}, timeout=LOOK_SECONDS)
    finally:
        gone.cancel()


def new_lines(asked: Any, since: Any) -> list[dict[str, Any]]:
    rows = Log.objects.filter(LogFilter.q(asked.model_copy(update={"text": None})), created__gte=since)
    return LOG.many(rows.order_by("timestamp", "pk")[:MAX_LINES])


async def scheduled_task_runs(socket: Socket) -> None:
    """Background tasks for a task worker, one at a time; each is taken off the queue when the worker says that it has it."""
    message = await socket.message()
    if message.get("type") != "subscribe":
        await socket.close(VIOLATION, "Protocol violation: expected 'subscribe' message")
    keys, worker = message.get("keys"), message.get("client_id")
    if not keys or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        await socket.close(VIOLATION, "Protocol violation: expected 'keys' in subscribe message")
    if not worker or not isinstance(worker, str):
        await socket.close(VIOLATION, "Protocol violation: expected 'client_id' in subscribe message")
    assert isinstance(keys, list) and isinstance(worker, str)
    await Delivery(socket, keys, worker).run()


class Delivery:
    """One task worker's connection."""

    def __init__(self, socket: Socket, keys: Sequence[str], worker: str) -> None:
        self.socket = socket
        self.keys = list(keys)
        self.worker = worker

    async def run(self) -> None:
        answer = asyncio.create_task(self.socket.text())
        looks = 0
        try:
            while True:
                if looks % int(RENEW_SECONDS / LOOK_SECONDS) == 0:
                    await on_a_thread(lambda: deliveries.seen(self.worker, self.keys))
                looks += 1
                run_id = await on_a_thread(lambda: deliveries.claim(self.keys))
                if run_id is None:
                    await asyncio.wait({answer}, timeout=LOOK_SECONDS)
                    if answer.done():
                        return await self.leave(answer.result())
                    continue
                looks = 0
                reply = await self.send(run_id, answer)
                if reply != "ack":
                    return await self.leave(reply, quit_allowed=reply == "quit")
                answer = asyncio.create_task(self.socket.text())
        finally:
            answer.cancel()
            with contextlib.suppress(Closed, asyncio.CancelledError):
                await answer
            await on_a_thread(lambda: deliveries.gone(self.worker))

    async def send(self, run_id: UUID, answer: asyncio.Task[str]) -> str:
        """Send one task run; the type of what the worker says to it. The run is the next one's if it says nothing."""
        taken = False
        try:
            row = await on_a_thread(lambda: TASK_RUN.one(run_id))
            if row is None:
                return "ack"
            await self.socket.send(json_body.dump(row).decode())
            while not (await asyncio.wait({answer}, timeout=RENEW_SECONDS))[0]:
                await on_a_thread(lambda: deliveries.keep_claim(run_id))
            kind = type_of(answer.result())
            taken = kind in {"ack", "quit"}
            return kind
        finally:
            settle = deliveries.delivered if taken else deliveries.give_up
            await on_a_thread(lambda: settle(run_id))

    async def leave(self, message: str, *, quit_allowed: bool = False) -> None:
        if quit_allowed or type_of(message) == "quit":
            await self.socket.close(1000)
        await self.socket.close(VIOLATION, "Protocol violation: expected 'ack' message")


def type_of(message: str) -> str:
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        return ""
    return str(value.get("type", "")) if isinstance(value, dict) else ""

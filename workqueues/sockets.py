"""The channel between a worker and its pool. Contract: work_pools_queues_workers.md, section 9.

It saves the worker its heartbeats and looks at the pool over HTTP; runs are always polled for.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from django.db import DatabaseError
from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.core import json_body
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import NotFound
from orchestrator.core.wire import Object, Text, UtcMoment, WireModel
from orchestrator.events.sockets import on_a_thread
from orchestrator.server.sockets import POLICY_VIOLATION, PROTOCOL_ERROR, Socket
from workqueues.models import WorkPool, WorkQueue
from workqueues.projections import WORK_POOL
from workqueues.registration import create_pool, heartbeat, update_pool

log = logging.getLogger(__name__)

VERSION = "work_pool_worker_channel.v1"
CAPABILITIES = ["worker_heartbeat.v1", "work_pool_snapshot.v1"]
LOOK_SECONDS = 1.0
# What a worker wants to know of its pool.
WATCHED = ("base_job_template", "concurrency_limit", "is_paused", "storage_configuration")
INTERNAL_ERROR = 1011

Names = Annotated[list[Text], Field(max_length=1_000)]


class Hello(WireModel):
    consumer_id: UUID
    worker_name: Annotated[Text, Field(min_length=1)]
    worker_type: Text
    heartbeat_interval_seconds: Annotated[int, Field(gt=0, le=10**6)]
    supported_channel_versions: Names
    requested_capabilities: Names
    work_queue_names: Names = []
    handled_cleanup_kinds: Names = []
    max_cleanup_concurrency: int = 0
    create_pool_if_not_found: bool = False
    default_base_job_template: Object = {}
    worker_metadata: Object | None = None


class Beat(WireModel):
    consumer_id: UUID
    worker_name: Text
    heartbeat_interval_seconds: Annotated[int, Field(gt=0, le=10**6)]


class Frame(WireModel):
    id: UUID
    sent_at: UtcMoment


class HelloFrame(Frame):
    type: Literal["worker.hello.v1"]
    payload: Hello


class BeatFrame(Frame):
    type: Literal["worker.heartbeat.v1"]
    payload: Beat


HELLO: TypeAdapter[HelloFrame] = TypeAdapter(HelloFrame)
BEAT: TypeAdapter[BeatFrame] = TypeAdapter(BeatFrame)


class Unwelcome(Exception):
    """The worker may not have the channel: a close code and its reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame(type_: str, payload: Any) -> str:
    return json_body.dump({"type": type_, "id": uuid4(), "sent_at": datetime.now(UTC), "payload": payload}).decode()


async def connect(socket: Socket) -> None:
    """A worker's channel, for as long as it lives."""
    name = socket.parameters["name"]
    try:
        await Channel(socket, name).run()
    except Unwelcome as refusal:
        await socket.close(refusal.code, refusal.reason)
    except DatabaseError:
        log.warning("The channel of a worker of %s breaks off: the database is away", name)
        await socket.close(INTERNAL_ERROR, "transient_server_error")


class Channel:
    def __init__(self, socket: Socket, pool_name: str) -> None:
        self.socket = socket
        self.pool_name = pool_name
        self.sequence = 1

    async def run(self) -> None:
        hello = read(HELLO, await self.socket.text()).payload
        check(hello)
        queues = await on_a_thread(lambda: in_one_transaction(lambda: welcome(self.pool_name, hello)))
        pool = await self.pool()
        await self.socket.send(frame("worker.ready.v1", self.ready(hello, queues, pool)))
        heard = asyncio.create_task(self.socket.text())
        try:
            while True:
                if not (await asyncio.wait({heard}, timeout=LOOK_SECONDS))[0]:
                    pool = await self.look(pool)
                    continue
                await self.beat(hello, heard.result())
                heard = asyncio.create_task(self.socket.text())
        finally:
            heard.cancel()

    def ready(self, hello: Hello, queues: list[dict[str, Any]], pool: dict[str, Any]) -> dict[str, Any]:
        rejected = [name for name in hello.requested_capabilities if name not in CAPABILITIES]
        return {
            "consumer_id": hello.consumer_id,
            "worker_id": None,
            "selected_channel_version": VERSION,
            "effective_heartbeat_interval_seconds": hello.heartbeat_interval_seconds,
            "accepted_capabilities": CAPABILITIES,
            "rejected_capabilities": rejected,
            "effective_max_cleanup_concurrency": 0,
            "resolved_work_queues": queues,
            "initial_snapshot": {"snapshot_sequence": self.sequence, "reason": "initial", "work_pool": pool},
        }

    async def pool(self) -> dict[str, Any]:
        """The pool as the wire shows it. Raises Unwelcome when it is gone."""

        def found() -> dict[str, Any] | None:
            return next(iter(WORK_POOL.many(WorkPool.objects.filter(name=self.pool_name))), None)

        row = await on_a_thread(found)
        if row is None:
            raise Unwelcome(POLICY_VIOLATION, "authorization_failed")
        return row

    async def look(self, before: dict[str, Any]) -> dict[str, Any]:
        """Tell the worker of its pool, if something that it wants to know has changed."""
        now = await self.pool()
        if watched(now) != watched(before):
            self.sequence += 1
            told = {"snapshot_sequence": self.sequence, "reason": "work_pool_updated", "work_pool": now}
            await self.socket.send(frame("work_pool.snapshot.v1", told))
        return now

    async def beat(self, hello: Hello, text: str) -> None:
        payload = read(BEAT, text).payload
        if (payload.consumer_id, payload.worker_name) != (hello.consumer_id, hello.worker_name):
            raise Unwelcome(PROTOCOL_ERROR, "protocol_error")
        try:
            await on_a_thread(lambda: in_one_transaction(lambda: note(self.pool_name, payload)))
        except NotFound:
            raise Unwelcome(POLICY_VIOLATION, "authorization_failed") from None
        except DatabaseError:
            raise Unwelcome(INTERNAL_ERROR, "heartbeat_persistence_failed") from None


def read(shape: TypeAdapter[Any], text: str) -> Any:
    try:
        return shape.validate_python(json_body.parse(text.encode()))
    except (ValidationError, json_body.InvalidJson):
        raise Unwelcome(PROTOCOL_ERROR, "protocol_error") from None


def check(hello: Hello) -> None:
    if VERSION not in hello.supported_channel_versions:
        raise Unwelcome(POLICY_VIOLATION, "unsupported_version")
    if not set(CAPABILITIES) <= set(hello.requested_capabilities):
        raise Unwelcome(PROTOCOL_ERROR, "protocol_error")


def watched(pool: dict[str, Any]) -> bytes:
    return json_body.dump([pool[key] for key in WATCHED])


def welcome(pool_name: str, hello: Hello) -> list[dict[str, Any]]:
    """Make the pool if need be, note that the worker lives; the queues it works on. Raises Unwelcome."""
    pool = WorkPool.objects.select_for_update().filter(name=pool_name).first()
    if pool is None:
        if not hello.create_pool_if_not_found or pool_name.lower().startswith("prefect"):
            raise Unwelcome(POLICY_VIOLATION, "authorization_failed")
        columns = {"type": hello.worker_type, "base_job_template": hello.default_base_job_template}
        pool, _ = create_pool(pool_name, **columns)
    elif not pool.base_job_template and hello.default_base_job_template:
        update_pool(pool, {"base_job_template": hello.default_base_job_template})
    queues = WorkQueue.objects.filter(work_pool=pool).order_by("priority", "pk")
    if hello.work_queue_names:
        queues = queues.filter(name__in=hello.work_queue_names)
    found = [{"id": key, "name": name} for key, name in queues.values_list("pk", "name")]
    if hello.work_queue_names and len(found) < len(set(hello.work_queue_names)):
        raise Unwelcome(POLICY_VIOLATION, "authorization_failed")
    heartbeat(pool, hello.worker_name, hello.heartbeat_interval_seconds)
    return found


def note(pool_name: str, beat: Beat) -> None:
    pool = WorkPool.objects.filter(name=pool_name).first()
    if pool is None:
        raise NotFound(f"Work pool '{pool_name}' not found.")
    heartbeat(pool, beat.worker_name, beat.heartbeat_interval_seconds)

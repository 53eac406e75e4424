"""Websockets: which path is answered by what, and the handshake that all share.

Contract: conventions.md, section 10; events_automations.md, section 3.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from django.conf import settings
from django.db import close_old_connections
from django.utils.module_loading import import_string

from orchestrator.server.bridge import Receive, Scope, Send

log = logging.getLogger(__name__)

SUBPROTOCOL = "prefect"
# Who says nothing after connecting is not kept.
FIRST_MESSAGE_SECONDS = 30.0
MAX_REASON_BYTES = 123
POLICY_VIOLATION = 1008
PROTOCOL_ERROR = 1002
TRY_AGAIN = 1013


def credentials_required() -> bool:
    return bool(settings.API_AUTH_STRING) or settings.API_KEYS_REQUIRED


def principal_of(token: str) -> Any:
    """Who a token belongs to; reads the database."""
    close_old_connections()
    return import_string("orchestrator.accounts.authentication.of_token")(token)


class Closed(Exception):
    """The client has gone, or was told to."""


class Socket:
    """One accepted connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, parameters: Mapping[str, str] | None = None) -> None:
        self.scope = scope
        self.parameters = parameters or {}
        # Who listens reads; who speaks, or takes work, writes.
        self.scope_needed = "read" if scope["path"].endswith("/out") else "write"
        self._receive = receive
        self._send = send

    async def text(self) -> str:
        """The next message. Raises Closed when there is none any more."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise Closed
        text = message.get("text")
        return text if text is not None else (message.get("bytes") or b"").decode("utf-8", "replace")

    async def message(self) -> dict[str, Any]:
        """The next message as a JSON object, an empty one for anything else; within the time a client has to speak."""
        try:
            async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                value = orjson.loads(await self.text())
        except TimeoutError:
            await self.close(POLICY_VIOLATION, "No message came in time")
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    async def send(self, text: str) -> None:
        try:
            await self._send({"type": "websocket.send", "text": text})
        except RuntimeError:
            raise Closed from None

    async def send_json(self, value: Any) -> None:
        await self.send(orjson.dumps(value).decode())

    async def close(self, code: int, reason: str = "") -> None:
        """End the connection. Raises Closed."""
        short = reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")
        with suppress(RuntimeError):
            await self._send({"type": "websocket.close", "code": code, "reason": short})
        raise Closed

    async def until_closed(self) -> None:
        """Read on and throw away what comes, until the client goes."""
        with suppress(Closed):
            while True:
                await self.text()

    async def greet(self) -> None:
        """Ask who is there. Raises Closed, with the policy's code, for one who may not come in."""
        message = await self.message()
        if message.get("type") != "auth":
            await self.close(POLICY_VIOLATION, "Expected 'auth' message")
        if credentials_required():
            token = message.get("token")
            if not token:
                await self.close(POLICY_VIOLATION, "Auth required but no token provided")
            principal = await asyncio.get_running_loop().run_in_executor(None, principal_of, str(token))
            if principal is None or not principal.may(self.scope_needed):
                await self.close(POLICY_VIOLATION, "Invalid token")
        await self.send_json({"type": "auth_success"})


Handler = Callable[[Socket], Awaitable[None]]


def pattern_of(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)))


class Sockets:
    """An ASGI application for websockets. `routes` map a path to the dotted name of its handler.

    A part of a path in braces, such as `{name}`, is any text without a slash; the handler finds it by that name.
    A path that is none is refused before it is accepted (HTTP 403), so that clients fall back at once.
    """

    def __init__(self, routes: Mapping[str, str], most: int) -> None:
        self.routes = [(pattern_of(path), handler) for path, handler in routes.items()]
        self.most = most
        self.open: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the request to connect
        handler_name, parameters = self.found(scope["path"])
        offered = SUBPROTOCOL in scope.get("subprotocols", ())
        if handler_name is None or len(self.open) >= self.most or (credentials_required() and not offered):
            await send({"type": "websocket.close", "code": PROTOCOL_ERROR})
            return
        handler: Handler = import_string(handler_name)
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if offered else None})
            socket = Socket(scope, receive, send, parameters)
            if offered:
                await socket.greet()
            await handler(socket)
        except Closed:
            pass
        except Exception:
            log.exception("The socket %s failed", scope["path"])
            with suppress(Closed):
                await Socket(scope, receive, send).close(1011, "Internal error")
        finally:
            self.open.discard(task)

    def found(self, path: str) -> tuple[str | None, dict[str, str]]:
        """The handler of a path, and the parts of it that have names."""
        for pattern, handler in self.routes:
            if match := pattern.fullmatch(path):
                return handler, match.groupdict()
        return None, {}

    async def shut(self) -> None:
        """Tell every client that the server goes away; they come back to the next one."""
        for task in list(self.open):
            task.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

"""One process that answers HTTP and websockets: the socket server, the bridge and Django."""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
import time
from collections.abc import Callable, Mapping

from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from orchestrator.server.bridge import Application, Bridge, Receive, Scope, Send
from orchestrator.server.sockets import Sockets
from orchestrator.server.supervisor import STOPS

HEADER_SECONDS = 20
# A connection costs some kilobytes; this many are far more than a team has clients of one process.
MAX_SOCKETS = 2_000


class AddressTaken(Exception):
    """Another server listens there already."""


class Front:
    """The ASGI application of a worker: HTTP goes to Django's threads, websockets stay on the loop."""

    def __init__(self, bridge: Bridge, sockets: Sockets) -> None:
        self.bridge = bridge
        self.sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.bridge(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.sockets(scope, receive, send)


def serve_http(
    application: Application,
    host: str,
    port: int,
    threads: int,
    sockets: Mapping[str, str],
    finish: Callable[[], None] = lambda: None,
) -> None:
    """Answer HTTP and websockets on host:port until SIGTERM or SIGINT, then finish what is being answered.

    `sockets` map paths to dotted names of handlers; `finish` is called last. Processes that serve the same address share
    its connections.
    """
    asyncio.run(_serve(Front(Bridge(application, threads), Sockets(sockets, MAX_SOCKETS)), host, port))
    finish()


async def _serve(front: Front, host: str, port: int) -> None:
    server = Server(
        front,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        backlog=1024,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000),
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, server.stop)
    await server.serve()
    await front.sockets.shut()
    front.bridge.pool.shutdown()


def check_free(host: str, port: int) -> None:
    """Raise AddressTaken when somebody listens on host:port, OSError when nobody could.

    Workers share their address, so a second server would silently take half of the first one's connections.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressTaken(f"{host}:{port} is taken by another server.") from None
            raise


def answers(host: str, port: int, within_seconds: float) -> bool:
    """Whether a server on host:port answers `GET /api/health` in time; waits for it."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(reachable, port, timeout=5)
        try:
            connection.request("GET", "/api/health", headers={"Connection": "close"})
            # A host name that is not allowed is refused with 400, by a server that is up.
            if connection.getresponse().status < 500:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    return False

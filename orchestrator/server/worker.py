"""One process that answers HTTP: the socket server, the bridge and Django."""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
import time

from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from orchestrator.server.bridge import Application, Bridge
from orchestrator.server.supervisor import STOPS

HEADER_SECONDS = 20


class AddressTaken(Exception):
    """Another server listens there already."""


def serve_http(application: Application, host: str, port: int, threads: int) -> None:
    """Answer HTTP on host:port until SIGTERM or SIGINT, then finish what is being answered.

    Processes that serve the same address share its connections.
    """
    asyncio.run(_serve(Bridge(application, threads), host, port))


async def _serve(bridge: Bridge, host: str, port: int) -> None:
    server = Server(
        bridge,
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        backlog=1024,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_SECONDS * 1000),
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, server.stop)
    await server.serve()
    bridge.pool.shutdown()


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

"""From RSGI, which the socket server speaks, to WSGI, which Django speaks: requests are answered on a pool of threads.

The event loop stays free, so that websockets can live on the same port. Source: PEP 3333; RSGI 1.6.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, NamedTuple, Protocol

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
# How much of a body that is refused anyway is read, so that its sender gets to read the answer.
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
BODY_SECONDS = 60.0
PROTOCOLS = {"1": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2"}

Headers = list[tuple[str, str]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Scope(Protocol):
    """What the socket server tells about a request."""

    proto: str
    http_version: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str
    authority: str | None
    headers: Any


class Exchange(Protocol):
    """One request's body and the way to answer it."""

    async def __call__(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...
    def response_empty(self, status: int, headers: Headers) -> None: ...


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


def refusal(status: int, detail: str) -> Answer:
    body = b'{"detail":"%s"}' % detail.encode()
    return Answer(status, [("content-type", "application/json"), ("content-length", str(len(body)))], body)


class Refused(Exception):
    """A request that Django never sees."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.answer = refusal(status, detail)


class Bridge:
    """An RSGI application that answers with a WSGI one, at most `threads` requests at a time; the others wait."""

    def __init__(
        self,
        application: Application,
        threads: int,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self.application = application
        self.max_body_bytes = max_body_bytes
        self.body_seconds = body_seconds
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="request")

    async def __rsgi__(self, scope: Scope, exchange: Any) -> None:
        if scope.proto != "http":
            exchange.close(403)
            return
        try:
            body = await self.body_of(scope, exchange)
        except Refused as refused:
            exchange.response_bytes(*refused.answer)
            return
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        # One future and one wake-up of the loop; run_in_executor would make two of each.
        self.pool.submit(self.answer, scope, body, exchange, loop, answered)
        await answered

    async def body_of(self, scope: Scope, exchange: Exchange) -> bytes:
        """The whole body. Raises Refused for one that is too large (413) or does not come (408)."""
        headers = scope.headers
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers and scope.http_version[0] == "1":
            return b""
        try:
            async with asyncio.timeout(self.body_seconds):
                if length is not None and int(length) <= self.max_body_bytes:
                    return await exchange()
                return await self.collected(exchange)
        except TimeoutError:
            raise Refused(408, "The request body did not come in time.") from None
        except (RuntimeError, ValueError):  # the client has gone, or broke off in the middle
            raise Refused(400, "The request body is broken.") from None

    async def collected(self, exchange: Exchange) -> bytes:
        """A body of unknown length, or one known to be too large."""
        # Read in parts, to count them. One that breaks off looks like one that ends; the JSON parser tells them apart.
        parts: list[bytes] = []
        size = 0
        async for part in exchange:
            size += len(part)
            if size > self.max_body_bytes + MAX_DISCARDED_BYTES:
                break
            if size <= self.max_body_bytes:
                parts.append(bytes(part))
            else:
                parts.clear()
        if size > self.max_body_bytes:
            raise Refused(413, "The request body is too large.")
        return b"".join(parts)

    def answer(
        self,
        scope: Scope,
        body: bytes,
        exchange: Exchange,
        loop: asyncio.AbstractEventLoop,
        answered: asyncio.Future[None],
    ) -> None:
        """Run the application on this thread and send what it says."""
        try:
            status, headers, content = self.called(environ_of(scope, body))
            if scope.method == "HEAD":
                exchange.response_empty(status, headers)
            else:
                exchange.response_bytes(status, headers, content)
        except Exception:
            # The application answers its own errors; this is a header that cannot be sent, or a client that has gone.
            log.exception("No answer could be sent to %s %s", scope.method, scope.path)
        finally:
            loop.call_soon_threadsafe(settle, answered)

    def called(self, environ: dict[str, Any]) -> Answer:
        started: list[tuple[str, Headers]] = []

        def start_response(status: str, headers: Headers, exc_info: Any = None) -> None:
            started[:] = [(status, headers)]

        try:
            parts = self.application(environ, start_response)
            try:
                body = b"".join(parts)
            finally:
                if hasattr(parts, "close"):
                    parts.close()
        except Exception:
            log.exception("Unhandled error")
            return refusal(500, "Internal Server Error")
        status, headers = started[0]
        return Answer(int(status[:3]), headers, body)


def settle(answered: asyncio.Future[None]) -> None:
    if not answered.done():  # cancelled, when the server stops in the middle
        answered.set_result(None)


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """The WSGI environment of a request (PEP 3333)."""
    server, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        # Percent-decoded already: decoding again would make "/" of "%252F".
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": server.strip("[]"),
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": PROTOCOLS.get(scope.http_version, "HTTP/1.1"),
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if scope.authority:
        environ["HTTP_HOST"] = scope.authority
    for name, value in scope.headers.items():
        # X_Forwarded_User would become what X-Forwarded-User becomes, and be taken for a trusted proxy's word.
        if "_" in name or name == "content-length":
            continue
        key = "CONTENT_TYPE" if name == "content-type" else "HTTP_" + name.upper().replace("-", "_")
        if key in environ and key != "HTTP_HOST":
            value = environ[key] + ("; " if name == "cookie" else ",") + value
        environ[key] = value
    return environ

"""From ASGI, which the socket server speaks, to WSGI, which Django speaks: requests are answered on a pool of threads.

The event loop stays free, so that websockets live on the same port. Source: PEP 3333; ASGI 3.0.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
# How much of a body that is refused anyway is read, so that its sender gets to read the answer.
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
BODY_SECONDS = 60.0
PROTOCOLS = {"1": "HTTP/1.0", "1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2"}

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Answer(NamedTuple):
    """A status, headers as the wire has them, and a body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def refusal(status: int, detail: str) -> Answer:
    body = b'{"detail":"%s"}' % detail.encode()
    return Answer(status, [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())], body)


class Refused(Exception):
    """A request that Django never sees."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.answer = refusal(status, detail)


class Bridge:
    """An ASGI application for HTTP that answers with a WSGI one, at most `threads` requests at a time; the others wait."""

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self.body_of(scope, receive)
        except Refused as refused:
            await send_answer(send, refused.answer)
            return
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()
        # One future and one wake-up of the loop; run_in_executor would make two of each.
        self.pool.submit(self.answer, scope, body, loop, answered)
        answer = await answered
        try:
            await send_answer(send, answer if scope["method"] != "HEAD" else answer._replace(body=b""))
        except RuntimeError:  # the client has gone
            log.debug("No answer could be sent to %s %s", scope["method"], scope["path"])

    async def body_of(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises Refused for one that is too large (413), does not come (408) or breaks off (400)."""
        framed = [name for name, _ in scope["headers"] if name in {b"content-length", b"transfer-encoding"}]
        if not framed and scope["http_version"][0] == "1":
            return b""
        try:
            async with asyncio.timeout(self.body_seconds):
                return await self.collected(receive)
        except TimeoutError:
            raise Refused(408, "The request body did not come in time.") from None
        except RuntimeError:  # the client has gone, or broke off in the middle
            raise Refused(400, "The request body is broken.") from None

    async def collected(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "The request body is broken.")
            part = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            if size > self.max_body_bytes + MAX_DISCARDED_BYTES:
                break
            if size <= self.max_body_bytes:
                parts.append(part)
            else:
                parts.clear()
        if size > self.max_body_bytes:
            raise Refused(413, "The request body is too large.")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def answer(self, scope: Scope, body: bytes, loop: asyncio.AbstractEventLoop, answered: asyncio.Future[Answer]) -> None:
        """Run the application on this thread; what it says goes back to the loop."""
        try:
            answer = self.called(environ_of(scope, body))
        except Exception:
            log.exception("Unhandled error")
            answer = refusal(500, "Internal Server Error")
        loop.call_soon_threadsafe(settle, answered, answer)

    def called(self, environ: dict[str, Any]) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            started[:] = [(status, headers)]

        parts = self.application(environ, start_response)
        try:
            body = b"".join(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        status, headers = started[0]
        return Answer(int(status[:3]), [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers], body)


async def send_answer(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def settle(answered: asyncio.Future[Answer], answer: Answer) -> None:
    if not answered.done():  # cancelled, when the server stops in the middle
        answered.set_result(answer)


def environ_of(scope: Scope, body: bytes) -> dict[str, Any]:
    """The WSGI environment of a request (PEP 3333), with the path as it was sent under RAW_PATH."""
    server, port = scope["server"]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        # Percent-decoded already: decoding again would make "/" of "%252F".
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "RAW_PATH": scope["raw_path"].partition(b"?")[0].decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": server,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": PROTOCOLS.get(scope["http_version"], "HTTP/1.1"),
        "REMOTE_ADDR": scope["client"][0] if scope.get("client") else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name_bytes, value_bytes in scope["headers"]:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        # X_Forwarded_User would become what X-Forwarded-User becomes, and be taken for a trusted proxy's word.
        if "_" in name or name == "content-length":
            continue
        key = "CONTENT_TYPE" if name == "content-type" else "HTTP_" + name.upper().replace("-", "_")
        if key in environ and key != "HTTP_HOST":
            value = environ[key] + ("; " if name == "cookie" else ",") + value
        environ[key] = value
    return environ

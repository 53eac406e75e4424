"""What arrives at Django for what a client sends, over a real socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, SECONDS, Started, awaited

ECHO = """
import json, sys, threading
from orchestrator.server.worker import serve_http

slow = threading.Event()

def echo(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise RuntimeError("on purpose")
    if path == "/slow":
        print("slow began", flush=True)
        slow.wait(1)
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    body = json.dumps(seen | {"body_bytes": len(environ["wsgi.input"].read())}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

serve_http(echo, sys.argv[1], int(sys.argv[2]), threads=2, sockets={})
"""


class Server:
    def __init__(self, host: str, log: Path) -> None:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            self.address = probe.getsockname()[:2]
        self.started = Started([sys.executable, "-c", ECHO, host, str(self.address[1])], {}, log)
        awaited(self.listens, "the server to listen")

    def listens(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=SECONDS)

    def send(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to raw bytes."""
        with self.connect() as connection:
            connection.sendall(request)
            return received(connection)

    def get(self, target: bytes, headers: bytes = b"") -> Any:
        status, _, body = self.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
        assert status == 200
        return json.loads(body)


def received(connection: socket.socket, with_body: bool = True) -> tuple[int, dict[str, str], bytes]:
    head, _, body = b"", b"", b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        assert part, f"the connection ended after {head!r}"
        head += part
    head, _, body = head.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in rest)
    while with_body and len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("127.0.0.1", tmp_path_factory.mktemp("bridge") / "output")
    yield server
    assert server.started.end() == 0


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b/caf%C3%A9?q=%20&r", "/a b/café", "q=%20&r"),
        (b"/a%2Fb", "/a/b", ""),
        (b"/a%252Fb", "/a%2Fb", ""),
        (b"//api/health", "//api/health", ""),
        (b"http://elsewhere.example/x", "/x", ""),
    ],
)
def test_a_path_is_decoded_once_and_a_query_not_at_all(server: Server, target: bytes, path: str, query: str) -> None:
    seen = server.get(target)
    assert seen["RAW_PATH"].encode() == target.partition(b"?")[0].removeprefix(b"http://elsewhere.example")
    assert seen["PATH_INFO"].encode("latin-1").decode() == path
    assert seen["QUERY_STRING"] == query


def test_headers_arrive_and_those_that_imitate_others_do_not(server: Server) -> None:
    seen = server.get(b"/", b"X-Real: yes\r\nX_Real: forged\r\nX_Other: forged\r\nContent-Type: text/x\r\n")
    assert seen["HTTP_X_REAL"] == "yes"
    assert seen["CONTENT_TYPE"] == "text/x"
    assert seen["HTTP_HOST"] == "a"
    assert "HTTP_X_OTHER" not in seen


def test_repeated_headers_are_joined(server: Server) -> None:
    seen = server.get(b"/", b"Authorization: Basic YQ==\r\nAuthorization: Basic Yg==\r\nCookie: a=1\r\nCookie: b=2\r\n")
    assert seen["HTTP_AUTHORIZATION"] == "Basic YQ==,Basic Yg=="
    assert seen["HTTP_COOKIE"] == "a=1; b=2"


def test_the_client_is_known_by_its_address(server: Server) -> None:
    assert server.get(b"/")["REMOTE_ADDR"] == "127.0.0.1"


def test_addresses_of_version_6_lose_their_brackets(tmp_path: Path) -> None:
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    server = Server("::1", tmp_path / "output")
    try:
        seen = server.get(b"/")
        assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"]) == ("::1", "::1")
    finally:
        server.started.end()


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
)
def test_a_body_arrives_whole_with_its_length(server: Server, request_: bytes) -> None:
    status, _, body = server.send(request_)
    assert status == 200
    assert json.loads(body)["CONTENT_LENGTH"] == "5"
    assert json.loads(body)["body_bytes"] == 5


def test_a_body_that_is_too_large_is_refused_whether_announced_or_not(server: Server) -> None:
    size = 16 * 1024 * 1024 + 1
    announced = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size
    for request in (announced, chunked + b"\r\n0\r\n\r\n"):
        status, headers, body = server.send(request)
        assert status == 413
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {"detail": "The request body is too large."}


def test_the_largest_body_that_is_allowed_arrives(server: Server) -> None:
    size = 16 * 1024 * 1024
    status, _, body = server.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    assert (status, json.loads(body)["body_bytes"]) == (200, size)


def test_a_client_that_leaves_in_the_middle_of_its_body_does_no_harm(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nbroken off")
    assert server.get(b"/after")["PATH_INFO"] == "/after"


def test_a_head_request_gets_the_headers_alone(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        status, headers, body = received(connection, with_body=False)
        rest = connection.recv(1)
    assert (status, body, rest) == (200, b"", b"")
    assert int(headers["content-length"]) > 0


def test_an_error_of_the_application_is_answered_without_its_text(server: Server) -> None:
    status, _, body = server.send(b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (status, json.loads(body)) == (500, {"detail": "Internal Server Error"})
    assert "on purpose" in server.started.printed


def test_a_websocket_of_no_known_path_is_refused(server: Server) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    status, _, _ = server.send(b"GET /api/events/in HTTP/1.1\r\nHost: a\r\n" + upgrade + key)
    assert status == 403


def test_a_stop_lets_the_request_finish_that_is_being_answered(tmp_path: Path) -> None:
    server = Server("127.0.0.1", tmp_path / "output")
    with server.connect() as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        server.started.await_text("slow began")
        server.started.process.send_signal(signal.SIGTERM)
        assert received(connection)[0] == 200
    assert server.started.process.wait(SECONDS) == 0


def test_a_port_that_is_taken_is_not_shared_with_another_server(server: Server) -> None:
    check = "import sys; from orchestrator.server.worker import check_free; check_free('127.0.0.1', int(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", check, str(server.address[1])], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "is taken by another server" in done.stderr

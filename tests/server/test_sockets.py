"""Websockets of `manage.py serve`, spoken to as the real client does."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .conftest import Started, awaited

SECONDS = 10


class Site:
    """A server on an empty home, and what a client may ask of it."""

    def __init__(self, start: Callable[..., Started], home: Path, port: int, *options: str, **environment: str) -> None:
        self.port = port
        self.environment = {
            "ORCHESTRATOR_HOME": str(home),
            "DATABASE_URL": f"sqlite:///{home / 'home.sqlite3'}",
            **environment,
        }
        self.start = lambda: start("manage.py", "serve", "--port", str(port), "--no-services", *options, **self.environment)
        self.started = self.start()
        self.started.await_text("Ready.")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    @contextmanager
    def socket(self, path: str, token: str | None = None, greet: bool = True) -> Iterator[ClientConnection]:
        address = f"ws://127.0.0.1:{self.port}/api{path}"
        with connect(address, subprotocols=["prefect"], open_timeout=SECONDS) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "prefect"
            if greet:
                say(socket, {"type": "auth", "token": token})
                assert heard(socket) == {"type": "auth_success"}
            yield socket


def say(socket: ClientConnection, message: Any) -> None:
    socket.send(message if isinstance(message, str) else json.dumps(message))


def heard(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(timeout=SECONDS))


def closed(socket: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server ends the connection."""
    with pytest.raises(ConnectionClosed) as error:
        socket.recv(timeout=SECONDS)
    assert error.value.rcvd is not None
    return error.value.rcvd.code, error.value.rcvd.reason


def event(name: str = "shop.sold", resource: str = "shop.1", **more: Any) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    return {"id": str(uuid4()), "occurred": at, "event": name, "resource": {"prefect.resource.id": resource}, **more}


def listen(**asked: Any) -> dict[str, Any]:
    occurred = {"since": datetime.now(UTC).replace(year=2020).isoformat(), "until": "2999-01-01T00:00:00Z"}
    return {"type": "filter", "filter": {"occurred": occurred, "id": {"id": []}, "order": "DESC", **asked}}


@pytest.fixture
def site(start: Callable[..., Started], tmp_path: Path, port: int) -> Site:
    return Site(start, tmp_path, port)


def stored(site: Site) -> list[str]:
    events = site.call("POST", "/events/filter", {"filter": {"order": "ASC"}})["events"]
    return [item["id"] for item in events]


def test_events_arrive_are_kept_once_and_reach_who_listens(site: Site) -> None:
    before, during, after = event(), event(), event("shop.closed")
    with site.socket("/events/in") as incoming:
        say(incoming, before)
        awaited(lambda: stored(site) == [before["id"]], "the first event")
        with site.socket("/events/out") as listener, site.socket("/events/out") as picky:
            say(listener, listen())
            say(picky, listen(event={"name": ["shop.closed"]}) | {"backfill": False})
            assert heard(listener)["event"]["id"] == before["id"]
            for each in (during, before, "{", '{"event": 5}', after):
                say(incoming, each)
            incoming.ping().wait(SECONDS)
            assert [heard(listener)["event"]["id"] for _ in range(2)] == [during["id"], after["id"]]
            told = heard(picky)
            assert (told["type"], told["event"]["id"]) == ("event", after["id"])
            assert told["event"]["received"].endswith("Z")
    assert stored(site) == [before["id"], during["id"], after["id"]]


def test_what_was_taken_is_stored_when_the_server_stops(site: Site) -> None:
    sent = [event(resource=f"r{i}") for i in range(1_500)]
    with site.socket("/events/in") as incoming:
        for each in sent:
            say(incoming, each)
        assert incoming.ping().wait(SECONDS)
        assert site.started.end() == 0
    site.started = site.start()
    site.started.await_text("Ready.")
    assert site.call("POST", "/events/filter", {"filter": {}})["total"] == len(sent)


def test_an_event_reaches_the_listeners_of_every_process(start: Callable[..., Started], tmp_path: Path, port: int) -> None:
    site = Site(start, tmp_path, port, "--workers", "3")
    with ThreadPoolExecutor(8) as threads:

        def hears(_: int) -> str:
            with site.socket("/events/out") as listener:
                say(listener, listen())
                return str(heard(listener)["event"]["id"])

        listeners = [threads.submit(hears, i) for i in range(8)]
        told = event()
        site.call("POST", "/events", [told])
        assert {each.result(30) for each in listeners} == {told["id"]}


@pytest.mark.parametrize(
    ("path", "first", "code", "reason"),
    [
        ("/events/out", {"type": "hello"}, 1002, "Expected 'filter' message"),
        ("/events/out", {"type": "filter", "filter": {"operator": "and_"}}, 1002, "Invalid filter: operator"),
        ("/events/out", {"type": "filter", "filter": {"event": {"x" * 300: 1}}}, 1002, "Invalid filter: event"),
        ("/logs/out", {"type": "hello"}, 1002, "Expected 'filter' message"),
        ("/logs/out", {"type": "filter", "filter": {"name": 1}}, 1002, "Invalid filter: name"),
        ("/task_runs/subscriptions/scheduled", {"type": "hello"}, 4001, "Protocol violation: expected 'subscribe' message"),
        (
            "/task_runs/subscriptions/scheduled",
            {"type": "subscribe", "keys": [], "client_id": "me"},
            4001,
            "Protocol violation: expected 'keys' in subscribe message",
        ),
        (
            "/task_runs/subscriptions/scheduled",
            {"type": "subscribe", "keys": ["a"]},
            4001,
            "Protocol violation: expected 'client_id' in subscribe message",
        ),
    ],
)
def test_a_wrong_first_message_ends_the_connection(site: Site, path: str, first: Any, code: int, reason: str) -> None:
    with site.socket(path) as socket:
        say(socket, first)
        found, why = closed(socket)
    assert found == code
    assert why.startswith(reason)


def test_nobody_comes_in_without_the_right_token(start: Callable[..., Started], tmp_path: Path, port: int) -> None:
    """A22."""
    site = Site(start, tmp_path, port, PREFECT_SERVER_API_AUTH_STRING="admin:secret")
    for first, reason in (
        ({"type": "auth", "token": None}, "Auth required but no token provided"),
        ({"type": "auth", "token": "admin:guess"}, "Invalid token"),
        (event(), "Expected 'auth' message"),
        ("[", "Expected 'auth' message"),
    ):
        with site.socket("/events/in", greet=False) as socket:
            say(socket, first)
            assert closed(socket) == (1008, reason)
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{port}/api/events/in"):
        pass
    assert refused.value.response.status_code == 403
    with site.socket("/events/in", token="admin:secret"):
        pass


def test_lines_are_streamed_as_they_are_stored(site: Site) -> None:
    run, other = str(uuid4()), str(uuid4())

    def line(of: str, message: str, level: int = 20) -> dict[str, Any]:
        at = datetime.now(UTC).isoformat()
        return {"name": "prefect.flow_runs", "level": level, "message": message, "timestamp": at, "flow_run_id": of}

    site.call("POST", "/logs/", [line(run, "before")])
    with site.socket("/logs/out") as listener:
        say(listener, {"type": "filter", "filter": {"flow_run_id": {"any_": [run]}, "level": {"ge_": 20}}})
        time.sleep(0.3)
        site.call("POST", "/logs/", [line(other, "another's"), line(run, "debug", 10), line(run, "one")])
        assert heard(listener)["log"]["message"] == "one"
        site.call("POST", "/logs/", [line(run, "two")])
        assert heard(listener)["log"]["message"] == "two"


def deferred(site: Site, key: str, number: str) -> str:
    state = {"type": "SCHEDULED", "state_details": {"deferred": True}}
    return str(site.call("POST", "/task_runs/", {"task_key": key, "dynamic_key": number, "state": state})["id"])


def subscribe(socket: ClientConnection, *keys: str, worker: str = "host-1") -> None:
    say(socket, {"type": "subscribe", "keys": list(keys), "client_id": worker})


def test_background_tasks_wait_for_a_worker_and_each_has_one(site: Site) -> None:
    tasks = "/task_runs/subscriptions/scheduled"
    waiting = [deferred(site, "shout", str(i)) for i in range(2)]
    deferred(site, "whisper", "0")
    with site.socket(tasks) as worker:
        subscribe(worker, "shout")
        first = heard(worker)
        assert (first["id"], first["state"]["state_details"]["deferred"]) == (waiting[0], True)
        assert site.call("POST", "/task_workers/filter", {})[0]["task_keys"] == ["shout"]
    # It went away without a word: the run is the next worker's, before the others.
    with site.socket(tasks) as worker:
        subscribe(worker, "shout", worker="host-2")
        for expected in waiting:
            assert heard(worker)["id"] == expected
            say(worker, {"type": "ack"})
        late = deferred(site, "shout", "9")
        assert heard(worker)["id"] == late
        say(worker, {"type": "quit"})
        assert closed(worker)[0] == 1000
    awaited(lambda: site.call("POST", "/task_workers/filter", {}) == [], "the workers to be forgotten")
    with site.socket(tasks) as worker:
        subscribe(worker, "shout")
        with pytest.raises(TimeoutError):
            worker.recv(timeout=1.5)


def test_a_background_task_outlives_the_process_that_had_it(site: Site) -> None:
    run = deferred(site, "shout", "0")
    (worker,) = awaited(lambda: site.started.children(), "the process that serves")
    os.kill(worker, signal.SIGKILL)
    awaited(lambda: worker not in site.started.children() and site.started.children(), "another one")

    def heard_again() -> Any:
        try:
            with site.socket("/task_runs/subscriptions/scheduled") as socket:
                subscribe(socket, "shout")
                return heard(socket)["id"]
        except OSError:
            return None

    assert awaited(heard_again, "the run") == run


def framed(type_: str, **payload: Any) -> dict[str, Any]:
    return {"type": type_, "id": str(uuid4()), "sent_at": datetime.now(UTC).isoformat(), "payload": payload}


def hello(**more: Any) -> dict[str, Any]:
    payload = {
        "consumer_id": str(uuid4()),
        "worker_name": "w-1",
        "worker_type": "process",
        "heartbeat_interval_seconds": 30,
        "supported_channel_versions": ["work_pool_worker_channel.v1"],
        "requested_capabilities": ["worker_heartbeat.v1", "work_pool_snapshot.v1", "cleanup_delivery.v1"],
        "work_queue_names": [],
        "handled_cleanup_kinds": [],
        "max_cleanup_concurrency": 1,
        "create_pool_if_not_found": True,
        "default_base_job_template": {},
        "worker_metadata": None,
    }
    return framed("worker.hello.v1", **(payload | more))


def test_a_worker_is_told_of_its_pool_and_lives_by_its_channel(site: Site) -> None:
    with site.socket("/work_pools/my%20pool/workers/connect") as worker:
        said = hello()
        say(worker, said)
        ready = heard(worker)
        assert (ready["type"], ready["payload"]["consumer_id"]) == ("worker.ready.v1", said["payload"]["consumer_id"])
        assert ready["payload"]["rejected_capabilities"] == ["cleanup_delivery.v1"]
        assert [queue["name"] for queue in ready["payload"]["resolved_work_queues"]] == ["default"]
        snapshot = ready["payload"]["initial_snapshot"]
        assert (snapshot["snapshot_sequence"], snapshot["work_pool"]["name"]) == (1, "my pool")
        assert site.call("GET", "/work_pools/my%20pool")["status"] == "READY"
        beat = {key: said["payload"][key] for key in ("consumer_id", "worker_name", "heartbeat_interval_seconds")}
        before = site.call("POST", "/work_pools/my%20pool/workers/filter", {})[0]["last_heartbeat_time"]
        say(worker, framed("worker.heartbeat.v1", **beat))
        awaited(
            lambda: site.call("POST", "/work_pools/my%20pool/workers/filter", {})[0]["last_heartbeat_time"] > before,
            "the heartbeat",
        )
        site.call("PATCH", "/work_pools/my%20pool", {"is_paused": True})
        told = heard(worker)
        assert (told["type"], told["payload"]["snapshot_sequence"]) == ("work_pool.snapshot.v1", 2)
        assert told["payload"]["work_pool"]["is_paused"] is True
        site.call("DELETE", "/work_pools/my%20pool")
        assert closed(worker) == (1008, "authorization_failed")


@pytest.mark.parametrize(
    ("first", "code", "reason"),
    [
        ({"type": "hello"}, 1002, "protocol_error"),
        (hello() | {"extra": 1}, 1002, "protocol_error"),
        (hello(requested_capabilities=[]), 1002, "protocol_error"),
        (hello(supported_channel_versions=["v9"]), 1008, "unsupported_version"),
        (hello(create_pool_if_not_found=False), 1008, "authorization_failed"),
        (hello(work_queue_names=["none"]), 1008, "authorization_failed"),
    ],
)
def test_a_worker_that_does_not_speak_the_channels_language_is_sent_away(site: Site, first: Any, code: int, reason: str) -> None:
    with site.socket("/work_pools/local/workers/connect") as worker:
        say(worker, first)
        assert closed(worker) == (code, reason)
    with pytest.raises(urllib.error.HTTPError):
        site.call("GET", "/work_pools/local")

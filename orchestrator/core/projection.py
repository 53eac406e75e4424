"""Rows of a table as the wire shows them, straight from one query, with no model instance between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import F, Model, QuerySet
from django.db.models.expressions import Combinable

from orchestrator.core.databases import wire_converter

WireRow = dict[str, Any]
Finish = Callable[[WireRow, datetime], None]
Converters = list[tuple[int, Callable[[Any], Any]]]


def aware(moment: datetime | None) -> datetime | None:
    """A time read raw from a column: SQLite gives it naive, and it is UTC."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


class Projection:
    """The wire's keys of a model, each with the path or expression it is read from.

    `finish(row, now)` may replace values by what is derived from them and drop helpers. `many` and `one` give rows ready
    for `json_body.dump`: stored JSON is a fragment, a time is aware or naive UTC.
    """

    def __init__(self, model: type[Model], columns: Mapping[str, str | Combinable], finish: Finish | None = None) -> None:
        self.model = model
        self.keys = tuple(columns)
        self.expressions = [F(column) if isinstance(column, str) else column for column in columns.values()]
        self.finish = finish
        self._by_key: dict[str, tuple[str, list[Any], int, Converters]] = {}

    def many(self, rows: QuerySet[Any]) -> list[WireRow]:
        """One query: the rows of `rows`, in its order and slice."""
        try:
            sql, params, converters = self._compile(rows)
        except EmptyResultSet:
            return []
        return self._read(sql, params, converters)

    def one(self, key: Any) -> WireRow | None:
        """The row with this primary key; no key, no row. Its SQL is compiled once per process."""
        if key is None:
            return None
        field = self.model._meta.pk
        assert field is not None
        cached = self._by_key.get(connection.vendor)
        if cached is None:
            # A key of no row marks the place of the key among the parameters.
            mark = field.get_db_prep_value(uuid4(), connection)
            sql, params, converters = self._compile(self.model._default_manager.filter(pk=mark))
            cached = self._by_key[connection.vendor] = (sql, list(params), list(params).index(mark), converters)
        sql, params, place, converters = cached
        asked = [*params[:place], field.get_db_prep_value(key, connection), *params[place + 1 :]]
        return next(iter(self._read(sql, asked, converters)), None)

    def _compile(self, rows: QuerySet[Any]) -> tuple[str, Sequence[Any], Converters]:
        compiler = rows.values_list(*self.expressions).query.get_compiler(connection=connection)
        sql, params = compiler.as_sql()
        found = [(i, wire_converter(item[0].output_field)) for i, item in enumerate(compiler.select)]
        return sql, params, [(i, convert) for i, convert in found if convert]

    def _read(self, sql: str, params: Sequence[Any], converters: Converters) -> list[WireRow]:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            raw = cursor.fetchall()
        keys, finish, now = self.keys, self.finish, datetime.now(UTC)
        shaped: list[WireRow] = []
        for values in raw:
            cells = list(values)
            for i, convert in converters:
                cells[i] = convert(cells[i])
            row = dict(zip(keys, cells, strict=False))
            if finish:
                finish(row, now)
            shaped.append(row)
        return shaped

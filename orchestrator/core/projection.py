"""Rows of a table as the wire shows them, straight from one query, with no model instance between.

What a projection selects never changes, so its SELECT and its joins are compiled once per process; only the condition is
compiled anew. Values are turned into the wire's column by column, which costs a fraction of row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    F,
    Field,
    FloatField,
    Func,
    IntegerField,
    Model,
    QuerySet,
    TextField,
    UUIDField,
)
from django.db.models.expressions import Combinable

from orchestrator.core.databases import ColumnConverter, is_postgresql, planned_cursor, wire_converter

WireRow = dict[str, Any]
Finish = Callable[[WireRow, datetime], None]
Converters = list[tuple[int, ColumnConverter]]


def moment_of(text: str | None) -> datetime | None:
    """A time of a row, to calculate with."""
    return None if text is None else datetime.fromisoformat(text)


JSON_TYPES: list[tuple[type[Field[Any, Any]], dict[str, Any]]] = [
    (UUIDField, {"type": "string", "format": "uuid"}),
    (DateTimeField, {"type": "string", "format": "date-time"}),
    (BooleanField, {"type": "boolean"}),
    (IntegerField, {"type": "integer"}),
    (FloatField, {"type": "number"}),
    (TextField, {"type": "string"}),
    (CharField, {"type": "string"}),
]


def json_type(field: Field[Any, Any]) -> dict[str, Any]:
    """The JSON Schema of a column's values."""
    found = next((schema for kind, schema in JSON_TYPES if isinstance(field, kind)), None)
    if found is None:
        return {}
    return {"anyOf": [found, {"type": "null"}]} if field.null else found


class Shown(Func):
    """A column in the form that costs least to show: keys and times as text.

    Drivers make objects of both, which costs more than all the rest of a row. SQLite's parses a column that is declared
    a time; behind a plus sign it is a value like any other.
    """

    template = "%(expressions)s"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "+%(expressions)s" if isinstance(self.output_field, DateTimeField) else self.template
        return super().as_sql(compiler, connection, template=template, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "%(expressions)s::text" if isinstance(self.output_field, UUIDField | DateTimeField) else self.template
        return super().as_sql(compiler, connection, template=template, **context)


class Joined:
    """Columns of a row joined by the ForeignKey `path`, as one object under one key; null where there is none.

    The first column must be one that is never null in a row.
    """

    def __init__(self, path: str, columns: Mapping[str, str]) -> None:
        self.keys = tuple(columns)
        self.columns = {f"{path}.{key}": f"{path}__{column}" for key, column in columns.items()}


@dataclass(frozen=True, slots=True)
class Head:
    """The compiled part of a projection: everything up to its condition."""

    sql: str
    params: tuple[Any, ...]
    converters: Converters


class Projection:
    """The wire's keys of a model, each with the path or expression it is read from.

    `finish(row, now)` may replace values by what is derived from them, and drops the keys that are `helpers`. Rows are ready for
    `json_body.dump`: keys and times are text (`moment_of` makes one to calculate with), stored JSON is a fragment.
    """

    def __init__(
        self,
        model: type[Model],
        columns: Mapping[str, str | Combinable | Joined],
        finish: Finish | None = None,
        helpers: Collection[str] = (),
    ) -> None:
        self.model = model
        assert model._meta.pk is not None
        self.table = model._meta.db_table
        self.key = f'"{self.table}"."{model._meta.pk.column}"'
        self.keys = tuple(columns)
        self.finish = finish
        self.helpers = frozenset(helpers)
        self.joined: list[tuple[int, tuple[str, ...]]] = []
        flat: list[str | Combinable] = []
        for i, column in enumerate(columns.values()):
            if isinstance(column, Joined):
                self.joined.append((i, column.keys))
                flat += column.columns.values()
            else:
                flat.append(column)
        self.expressions = [Shown(F(column) if isinstance(column, str) else column) for column in flat]
        self._heads: dict[str, Head] = {}

    def many(self, rows: QuerySet[Any]) -> list[WireRow]:
        """One query: the rows of `rows`, in its order and slice. Its order is by columns of the row itself."""
        try:
            keys, params = rows.values("pk").query.sql_with_params()
        except EmptyResultSet:
            return []
        order = [self._ordered(name) for name in map(str, rows.query.order_by)]
        tail = f"{self.key} IN ({keys})" + (f" ORDER BY {', '.join(order)}" if order else "")
        return self._read(connection.cursor(), tail, params)

    def one(self, key: Any) -> WireRow | None:
        """The row with this primary key; no key, no row."""
        if key is None:
            return None
        return next(iter(self.where(f"{self.key} = %s", [self.stored(key)])), None)

    def where(self, condition: str, params: Sequence[Any]) -> list[WireRow]:
        """The rows that a condition in SQL chooses; an ORDER BY may follow it. Values go into `params` alone.

        For conditions that come again and again as they are.
        """
        return self._read(planned_cursor(), condition, params)

    def _read(self, opened: AbstractContextManager[Any], condition: str, params: Sequence[Any]) -> list[WireRow]:
        head = self._head()
        with opened as cursor:
            cursor.execute(f"{head.sql} WHERE {condition}", (*head.params, *params))
            raw = cursor.fetchall()
        return self._shaped(raw, head.converters) if raw else []

    def stored(self, key: Any) -> Any:
        """A primary key as the database holds it."""
        field = self.model._meta.pk
        assert field is not None
        return field.get_db_prep_value(key, connection)

    def among(self, column: str, keys: Sequence[str]) -> tuple[str, list[Any]]:
        """The condition that a key of another table, in a column of this one, is among `keys` as rows show them."""
        if is_postgresql():
            return f"{self.table}.{column} = ANY(%s::uuid[])", [list(keys)]
        stored = dumps([key.replace("-", "") for key in keys])
        return f"{self.table}.{column} IN (SELECT value FROM json_each(%s))", [stored]  # noqa: S608

    def json_schema(self) -> dict[str, Any]:
        """What the keys hold, in JSON Schema's words; stored JSON is anything."""
        compiler = self.model._default_manager.values_list(*self.expressions).query.get_compiler(connection=connection)
        compiler.as_sql()
        types = [json_type(item[0].output_field) for item in compiler.select]
        for i, keys in self.joined:
            inner = dict(zip(keys, types[i : i + len(keys)], strict=True))
            types[i : i + len(keys)] = [{"anyOf": [{"type": "object", "properties": inner}, {"type": "null"}]}]
        return {key: type_ for key, type_ in zip(self.keys, types, strict=True) if key not in self.helpers}

    def _ordered(self, name: str) -> str:
        field = self.model._meta.pk if name.lstrip("-") == "pk" else self.model._meta.get_field(name.lstrip("-"))
        return f'"{self.table}"."{field.column}"' + (" DESC" if name.startswith("-") else "")  # type: ignore[union-attr]

    def _head(self) -> Head:
        if (head := self._heads.get(connection.vendor)) is None:
            compiler = self.model._default_manager.values_list(*self.expressions).query.get_compiler(connection=connection)
            sql, params = compiler.as_sql()
            found = [(i, wire_converter(item[0].output_field)) for i, item in enumerate(compiler.select)]
            head = Head(sql, tuple(params), [(i, convert) for i, convert in found if convert])
            self._heads[connection.vendor] = head
        return head

    def _shaped(self, raw: Sequence[Sequence[Any]], converters: Converters) -> list[WireRow]:
        columns: list[Any] = list(zip(*raw, strict=True))
        for i, convert in converters:
            columns[i] = convert(columns[i])
        for i, keys in self.joined:
            cells = zip(*columns[i : i + len(keys)], strict=True)
            columns[i : i + len(keys)] = [[dict(zip(keys, of, strict=True)) if of[0] is not None else None for of in cells]]
        shaped = [dict(zip(self.keys, cells, strict=True)) for cells in zip(*columns, strict=True)]
        if self.finish:
            now = datetime.now(UTC)
            for row in shaped:
                self.finish(row, now)
        return shaped

"""Statements of the hot path, compiled once per process instead of once per request.

The ORM needs longer to write a SELECT of one row with its state than the database needs to find it. What is here is the
same SQL from the same ORM, kept. Use it where a benchmark asks for it, and the ORM everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from django.db import connection
from django.db.models import AutoField, Field, Model, QuerySet
from django.db.models.query import get_related_populators
from django.utils import timezone

from orchestrator.core.databases import planned_cursor

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A SELECT as text, which of its parameters are which argument, and what makes instances of its rows."""

    sql: str
    params: tuple[Any, ...]
    places: tuple[tuple[int, int], ...]
    compiler: Any
    attributes: list[str]
    converters: dict[int, Any]
    related: list[Any]

    def rows(self, arguments: Sequence[Any]) -> list[Any]:
        params = list(self.params)
        for place, argument in self.places:
            params[place] = arguments[argument]
        with planned_cursor() as cursor:
            cursor.execute(self.sql, params)
            raw = cursor.fetchall()
        model, width = self.compiler.klass_info["model"], len(self.attributes)
        found = []
        for cells in self.compiler.apply_converters(raw, self.converters):
            row = model.from_db("default", self.attributes, cells[:width])
            for populator in self.related:
                populator.populate(cells, row)
            found.append(row)
        return found


class Prepared(Generic[Row]):
    """The query that `build` makes of its arguments, for arguments of these kinds (`UUID` or `str`), none of them null.

    `build` must make the same SQL whatever the arguments are, and select whole rows (`select_related` included).
    """

    def __init__(self, build: Callable[..., QuerySet[Row]], *kinds: type) -> None:
        self.build = build
        self.kinds = kinds
        self._compiled: dict[str, Compiled] = {}

    def first(self, *arguments: UUID | str) -> Row | None:
        return next(iter(self.rows(*arguments)), None)

    def rows(self, *arguments: UUID | str) -> list[Row]:
        if (compiled := self._compiled.get(connection.vendor)) is None:
            compiled = self._compiled[connection.vendor] = self._compile()
        return compiled.rows([stored(argument) for argument in arguments])

    def _compile(self) -> Compiled:
        marks: list[Any] = [uuid4() if kind is UUID else uuid4().hex for kind in self.kinds]
        compiler = self.build(*marks).query.get_compiler(connection=connection)
        sql, params = compiler.as_sql()
        known = [stored(mark) for mark in marks]
        places = tuple((place, known.index(param)) for place, param in enumerate(params) if param in known)
        select, info = compiler.select, compiler.klass_info
        attributes = [select[i][0].target.attname for i in info["select_fields"]]
        converters = compiler.get_converters([column[0] for column in select])
        related = get_related_populators(info, select, "default")  # type: ignore[call-arg]
        return Compiled(sql, tuple(params), places, compiler, attributes, converters, related)


def stored(value: UUID | str) -> Any:
    """A value as the driver takes it."""
    return value.hex if isinstance(value, UUID) and connection.vendor == "sqlite" else value


@cache
def _columns(model: type[Model]) -> tuple[str, list[Field[Any, Any]]]:
    """The INSERT of a whole row of `model`, and the fields it names: all but what the database fills in."""
    fields = [field for field in model._meta.local_concrete_fields if not field.generated and not isinstance(field, AutoField)]
    names = ", ".join(f'"{field.column}"' for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    return f'INSERT INTO "{model._meta.db_table}" ({names}) VALUES ({marks})', fields  # noqa: S608


def insert(row: Model) -> None:
    """INSERT a new row. Sends no signals."""
    sql, fields = _columns(type(row))
    with planned_cursor() as cursor:
        cursor.execute(sql, [field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields])
    row._state.adding = False
    row._state.db = "default"


@cache
def _update_sql(model: type[Model], names: tuple[str, ...]) -> tuple[str, list[Field[Any, Any]]]:
    fields = [model._meta.get_field(name) for name in names]
    changes = ", ".join(f'"{field.column}" = %s' for field in fields)  # type: ignore[union-attr]
    return f'UPDATE "{model._meta.db_table}" SET {changes} WHERE "id" = %s', fields  # type: ignore[return-value]  # noqa: S608


def update(row: Any, names: Sequence[str]) -> None:
    """UPDATE these columns of a row, and `updated` where it has one. Sends no signals."""
    if hasattr(row, "updated"):
        row.updated = timezone.now()
        names = [*names, "updated"]
    model: Any = type(row)
    sql, fields = _update_sql(model, tuple(sorted(names)))
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    with planned_cursor() as cursor:
        cursor.execute(sql, [*values, stored(row.pk)])

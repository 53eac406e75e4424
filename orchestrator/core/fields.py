"""Model fields and lookups that mean the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import orjson
from django.db import models
from django.db.models import CharField, ForeignKey, Func, Lookup, TextField, UUIDField
from django.db.models.sql.compiler import SQLCompiler


class TagsField(models.JSONField):
    """A list of strings, with the lookups `has_all` (superset) and `has_any` (intersection) of a list of strings."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("default", list)
        options.setdefault("blank", True)
        super().__init__(**options)


class TagsLookup(Lookup):
    """A list of tags compared element by element; on PostgreSQL by an operator that a GIN index serves."""

    prepare_rhs = False
    postgres_operator: str

    def as_postgresql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, list[Any]]:
        left, params = self.process_lhs(compiler, connection)
        return f"{left} {self.postgres_operator} %s::text[]", [*params, list(self.rhs)]

    def as_sqlite(self, compiler: SQLCompiler, connection: Any) -> tuple[str, list[Any]]:
        left, params = self.process_lhs(compiler, connection)
        tags = sorted(set(self.rhs))
        marks = ",".join(["%s"] * len(tags))
        found = f"(SELECT COUNT(DISTINCT value) FROM json_each({left}) WHERE value IN ({marks}))"  # noqa: S608
        return f"{found} {self.sqlite_test(len(tags))}", [*params, *tags]

    def sqlite_test(self, asked: int) -> str:
        raise NotImplementedError

    def get_prep_lookup(self) -> Any:
        return self.rhs


@TagsField.register_lookup
class HasAll(TagsLookup):
    lookup_name = "has_all"
    postgres_operator = "?&"

    def sqlite_test(self, asked: int) -> str:
        return f"= {asked}"


@TagsField.register_lookup
class HasAny(TagsLookup):
    lookup_name = "has_any"
    postgres_operator = "?|"

    def sqlite_test(self, asked: int) -> str:
        return "> 0"


@UUIDField.register_lookup
@ForeignKey.register_lookup
class Among(Lookup):
    """A key in a list of any length: the list is one parameter, prepared in one go."""

    lookup_name = "among"
    prepare_rhs = False

    def get_prep_lookup(self) -> Any:
        return self.rhs

    def as_postgresql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, list[Any]]:
        left, params = self.process_lhs(compiler, connection)
        return f"{left} = ANY(%s)", [*params, list(self.rhs)]

    def as_sqlite(self, compiler: SQLCompiler, connection: Any) -> tuple[str, list[Any]]:
        left, params = self.process_lhs(compiler, connection)
        keys = orjson.dumps([key.hex for key in self.rhs]).decode()
        return f"{left} IN (SELECT value FROM json_each(%s))", [*params, keys]  # noqa: S608


class Unindexed(Func):
    """A column that SQLite shall test, not search by: the rows come along another index, in the order asked for."""

    template = "%(expressions)s"

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **context: Any) -> Any:
        return super().as_sql(compiler, connection, template="+%(expressions)s", **context)


@CharField.register_lookup
@TextField.register_lookup
class Like(Lookup):
    """Case-insensitive LIKE in which `%` and `_` of the value stay wildcards (contract: filters_sorts.md, section 1)."""

    lookup_name = "wire_like"

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> Any:
        left, params = self.process_lhs(compiler, connection)
        operator = "ILIKE" if connection.vendor == "postgresql" else "LIKE"
        return f"{left} {operator} %s", [*params, self.rhs]


class TagsIndex(models.Index):
    """The index behind `has_all` and `has_any` on PostgreSQL (GIN). SQLite has none of this kind and reads the rows.

    Django's own GinIndex would load PostgreSQL's driver where there is no PostgreSQL: six megabytes a process.
    """

    suffix = "gin"
    NOTHING = "SELECT 1"  # a schema editor always executes what an index gives it

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **options: Any) -> Any:
        if schema_editor.connection.vendor != "postgresql":
            return self.NOTHING
        return super().create_sql(model, schema_editor, using=" USING gin", **options)

    def remove_sql(self, model: Any, schema_editor: Any, **options: Any) -> Any:
        if schema_editor.connection.vendor != "postgresql":
            return self.NOTHING
        return super().remove_sql(model, schema_editor, **options)

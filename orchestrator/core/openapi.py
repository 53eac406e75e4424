"""The API description: what `@documented`, filters and projections say of each handler, in OpenAPI's words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from types import FunctionType
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from pydantic import TypeAdapter

from orchestrator.core.projection import Projection

JSON = "application/json"
REFERENCE = "#/components/schemas/"
ERROR = {"description": "A fault of the request", "content": {JSON: {"schema": {"type": "object"}}}}
FILTERED = frozenset({"filter", "count", "paginate", "history"})
ONE = ("retrieve", "create")
NO_BODY = 204


class WireSchema(AutoSchema):
    """One operation of the description. Shapes come from pydantic and from projections, not from serializers."""

    view: Any

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Any:
        self.path, self.method, self.registry = path, method, registry
        handler = getattr(self.view, self.view.action)
        wire = getattr(handler, "wire", {})
        status = wire.get("status", 200)
        done: dict[str, Any] = {"description": "Done"}
        if status != NO_BODY:
            done["content"] = {JSON: {"schema": self.answer_shape(wire.get("answer"))}}
        operation: dict[str, Any] = {
            "operationId": self.operation_id(),
            "summary": wire.get("summary") or self.view.action.replace("_", " ").capitalize(),
            "tags": [path.removeprefix("/api/").split("/")[0]],
            "responses": {str(status): done, "422": ERROR},
        }
        if text := (handler.__doc__ or "").strip():
            operation["description"] = text
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        if shape := asked(wire.get("body")) or self.filter_shape():
            operation["requestBody"] = {"content": {JSON: {"schema": self.described(shape)}}}
        return operation

    def operation_id(self) -> str:
        """A name of its own: one handler may answer several paths."""
        name = f"{type(self.view).__name__.removesuffix('ViewSet')}_{self.view.action}"
        by = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        return "_by_".join([name, "_".join(by)]) if by else name

    def filter_shape(self) -> Any:
        kind = self.view.action
        filtered = hasattr(self.view, "keys") and kind in FILTERED
        return self.view.shape(kind) if filtered else None

    def described(self, shape: Any) -> dict[str, Any]:
        """The schema of a pydantic shape, with what it refers to among the components."""
        schema = TypeAdapter(shape).json_schema(ref_template=REFERENCE + "{model}", mode="validation")
        definitions = schema.pop("$defs", {})
        for suffix in suffixes():
            renamed = {name: name + suffix for name in definitions}
            group = {renamed[name]: with_names(item, renamed) for name, item in definitions.items()}
            if all(self.known(name) in (None, item) for name, item in group.items()):
                for name, item in group.items():
                    self.keep(name, item)
                return with_names(schema, renamed)
        raise AssertionError("unreachable")

    def known(self, name: str) -> Any:
        found = self.registry._components.get((name, ResolvedComponent.SCHEMA))
        return found.schema if found else None

    def keep(self, name: str, schema: Any) -> dict[str, str]:
        """Put a schema among the components; a reference to it."""
        if self.known(name) is None:
            self.registry.register(ResolvedComponent(name, ResolvedComponent.SCHEMA, schema=schema, object=name))
        return {"$ref": REFERENCE + name}

    def answer_shape(self, told: Any) -> dict[str, Any]:
        """The shape of what is answered: as told of the handler, else rows of the view's projection."""
        projection: Projection | None = getattr(self.view, "projection", None)
        if isinstance(told, Projection):
            return self.row_shape(told)
        if told and "type" not in told and projection:
            return {"type": "object", "properties": projection.json_schema() | told}
        if told:
            return dict(told)
        action = self.view.action
        if projection is None:
            return {}
        if action == "count":
            return {"type": "integer"}
        if action.startswith(ONE):
            return self.row_shape(projection)
        if action in {"filter", "list"}:
            return {"type": "array", "items": self.row_shape(projection)}
        if action == "paginate":
            numbers = {name: {"type": "integer"} for name in ("count", "limit", "pages", "page")}
            rows = {"type": "array", "items": self.row_shape(projection)}
            return {"type": "object", "properties": {"results": rows, **numbers}}
        return {}

    def row_shape(self, projection: Projection) -> dict[str, str]:
        name = projection.model.__name__
        schema = {"type": "object", "properties": projection.json_schema()}
        while self.known(name) not in (None, schema):
            name += "Row"
        return self.keep(name, schema)


def asked(shape: Any) -> Any:
    """A shape, or what a function without arguments says is one: some can be made only when all filters are known."""
    return shape() if isinstance(shape, FunctionType) else shape


def suffixes() -> Iterator[str]:
    yield ""
    yield from (str(number) for number in count(2))


def with_names(schema: Any, names: dict[str, str]) -> Any:
    """`schema` with its references to definitions renamed."""
    if isinstance(schema, dict):
        return {key: renamed_reference(item, names) if key == "$ref" else with_names(item, names) for key, item in schema.items()}
    if isinstance(schema, list):
        return [with_names(item, names) for item in schema]
    return schema


def renamed_reference(reference: Any, names: dict[str, str]) -> Any:
    if not isinstance(reference, str) or not reference.startswith(REFERENCE):
        return reference
    return REFERENCE + names.get(reference.removeprefix(REFERENCE), reference.removeprefix(REFERENCE))

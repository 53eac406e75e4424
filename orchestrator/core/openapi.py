"""The API description: what `@documented` and the filters say of each handler, in OpenAPI's words."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from pydantic import TypeAdapter

JSON = "application/json"
ERROR = {"description": "A fault of the request", "content": {JSON: {"schema": {"type": "object"}}}}


class WireSchema(AutoSchema):
    """One operation of the description. Shapes come from pydantic, not from serializers."""

    view: Any

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Any:
        self.path, self.method, self.registry = path, method, registry
        handler = getattr(self.view, self.view.action)
        wire = getattr(handler, "wire", {})
        operation: dict[str, Any] = {
            "operationId": f"{type(self.view).__name__.removesuffix('ViewSet')}_{self.view.action}",
            "summary": wire.get("summary") or self.view.action.replace("_", " ").capitalize(),
            "tags": [path.removeprefix("/api/").split("/")[0]],
            "responses": {
                str(wire.get("status", 200)): {"description": "Done", "content": {JSON: {"schema": {}}}},
                "422": ERROR,
            },
        }
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        if shape := wire.get("body") or self.filter_shape():
            schema = TypeAdapter(shape).json_schema(ref_template="#/components/schemas/{model}")
            definitions = schema.pop("$defs", {})
            operation["requestBody"] = {"content": {JSON: {"schema": inlined(schema, definitions)}}}
        return operation

    def filter_shape(self) -> Any:
        kind = self.view.action
        filtered = hasattr(self.view, "keys") and kind in {"filter", "count", "paginate", "history"}
        return self.view.shape(kind) if filtered else None


def inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """`schema` with its references replaced by what they name, so that equal names of two bodies never meet."""
    if isinstance(schema, dict):
        if (reference := schema.get("$ref")) and isinstance(reference, str):
            return inlined(definitions[reference.rsplit("/", 1)[1]], definitions)
        return {key: inlined(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [inlined(item, definitions) for item in schema]
    return schema

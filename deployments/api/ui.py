"""`/ui/schemas/validate`: values of a form against a schema, as errors a form can show.

Contract: ui_and_misc_endpoints.md, section 3.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from deployments.hydration import HydrationError, Hydrator, check_template
from deployments.schemas import SchemaValues
from orchestrator.blocks.models import Variable
from orchestrator.core.errors import Unprocessable
from orchestrator.core.json_schema import CircularSchemaReference, InvalidSchema, errors_of
from orchestrator.core.routes import route
from orchestrator.core.viewsets import WireViewSet, documented

Path = tuple[str | int, ...]
# Stands for a value that only a run knows: it fits anything.
UNKNOWN = object()


class Checked(Hydrator):
    """Fills placeholders where it can, and writes down which cannot be filled; templates are only looked at."""

    def __init__(self) -> None:
        super().__init__(lambda: dict(Variable.objects.values_list("name", "value")))
        self.faults: dict[Path, str] = {}
        self.open: set[Path] = set()

    def walk(self, value: Any, path: Path = ()) -> Any:
        if isinstance(value, dict) and "__prefect_kind" in value:
            return self.filled(value, path)
        if isinstance(value, dict):
            found = {key: self.walk(item, (*path, key)) for key, item in value.items()}
            return {key: item for key, item in found.items() if item is not UNKNOWN}
        if isinstance(value, list):
            return [None if (item := self.walk(one, (*path, i))) is UNKNOWN else item for i, one in enumerate(value)]
        return value

    def filled(self, value: dict[str, Any], path: Path) -> Any:
        try:
            if value["__prefect_kind"] == "jinja":
                check_template(value.get("template"))
                self.open.add(path)
                return UNKNOWN
            return self.value(value, 0)
        except HydrationError as error:
            self.faults[path] = str(error)
            return UNKNOWN


class SchemaViewSet(WireViewSet):
    reads = frozenset({"validate"})

    @documented(body=SchemaValues, summary="Check values against a schema")
    def validate(self, request: Request) -> HttpResponse:
        body = self.body(SchemaValues)
        checked = Checked()
        values = checked.walk(body.values)
        try:
            found = errors_of(values, body.json_schema)
        except CircularSchemaReference as error:
            raise Unprocessable(str(error)) from None
        except InvalidSchema as error:
            raise Unprocessable(f"Invalid schema: {error}") from None
        hidden = set(checked.faults) | checked.open
        faults = [(path, text) for path, text in found if not any(path[: len(at)] == at for at in hidden)]
        faults += checked.faults.items()
        return self.answer({"errors": nested(faults), "valid": not faults})


def nested(faults: list[tuple[Path, str]]) -> list[Any]:
    """Errors by path as a tree: text at the root, objects with `property` or `index` and their `errors` below."""
    here: list[Any] = [text for path, text in faults if not path]
    below: dict[str | int, list[tuple[Path, str]]] = {}
    for path, text in faults:
        if path:
            below.setdefault(path[0], []).append((path[1:], text))
    for key, rest in below.items():
        here.append({("index" if isinstance(key, int) else "property"): key, "errors": nested(rest)})
    return here


urlpatterns = [route("schemas/validate", SchemaViewSet, post="validate")]

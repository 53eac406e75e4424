"""DRF viewsets that speak the wire: parse with pydantic, call one verb, render rows. Contract: conventions.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, ClassVar, TypeVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from pydantic import BaseModel, Field, ValidationError, create_model
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from orchestrator.core import json_body
from orchestrator.core.criteria import optional
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import Forbidden, InvalidRequest, NotFound, Unprocessable
from orchestrator.core.filters import RowFilter
from orchestrator.core.projection import Projection, WireRow
from orchestrator.core.renderers import WireRenderer
from orchestrator.core.wire import EmbeddedBody

Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[..., HttpResponse]

# An offset beyond this is no page of a list but a mistake, and PostgreSQL takes 64-bit offsets only.
MAX_OFFSET = 2**31 - 1


def parse_body(raw: bytes, *, strip_nul: bool = False) -> Any:
    """The JSON value of a request body; an empty one is None. What is not JSON is a 422 that shows where."""
    if not raw:
        return None
    try:
        return json_body.parse(raw, strip_nul=strip_nul)
    except json_body.InvalidJson as error:
        item = {
            "type": "json_invalid",
            "loc": (error.position,),
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": error.reason},
        }
        raise InvalidRequest([item], raw[:10_000].decode("utf-8", "replace")) from None


def validated(shape: type[Body], value: Any) -> Body:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest.of(error, value) from None


def writes(handler: Handler) -> Handler:
    """A handler whose whole work is one transaction, tried again where the database says that it helps."""

    @wraps(handler)
    def in_transaction(self: WireViewSet, request: Request, **path: Any) -> HttpResponse:
        return in_one_transaction(lambda: handler(self, request, **path))

    return in_transaction


def documented(
    *,
    body: Any = None,
    answer: Any = None,
    status: int = 200,
    summary: str = "",
    query: Mapping[str, Any] | None = None,
) -> Callable[[Handler], Handler]:
    """What the API description says of a handler: the shape of its body (or a function that makes it), and of its answer.

    `answer` is a projection, a JSON Schema, or keys beside those of the viewset's projection.
    """

    def mark(handler: Handler) -> Handler:
        handler.wire = {"body": body, "answer": answer, "status": status, "summary": summary, "query": query}  # type: ignore[attr-defined]
        return handler

    return mark


class WireViewSet(ViewSet):
    """The base of every endpoint. Content negotiation is settled: JSON.

    `reads` are the handlers that change nothing though they are posted to; whoever may only look may have them.
    """

    request: Request
    reads: ClassVar[frozenset[str]] = frozenset()

    def require(self, scope: str) -> None:
        """Raise Forbidden unless who asks has the scope."""
        principal = getattr(self.request._request, "principal", None)
        if principal is not None and not principal.may(scope):
            raise Forbidden("Forbidden")

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        return WireRenderer, WireRenderer.media_type

    def raw_body(self) -> Any:
        """The parsed JSON body; None when there is none."""
        return parse_body(self.request._request.body)

    def body(self, shape: type[Body]) -> Body:
        """The body as `shape`, or a 422 that says what does not fit. An absent body of optional keys is all defaults."""
        value = self.raw_body()
        if value is None and not self.request._request.body and issubclass(shape, EmbeddedBody):
            value = {}
        return validated(shape, value)

    def answer(self, value: Any, status: int = 200) -> HttpResponse:
        return HttpResponse(json_body.dump(value), status=status, content_type="application/json")

    def nothing(self, status: int = 204) -> HttpResponse:
        return HttpResponse(status=status)


def bounded_limit(limit: int | None) -> int:
    """The limit to use: the default when none is asked for; outside of 0 to the default is a 422."""
    most = settings.API_DEFAULT_LIMIT
    if limit is None:
        return most
    if limit < 0:
        raise Unprocessable("Invalid limit: must be greater than or equal to 0.")
    if limit > most:
        raise Unprocessable(f"Invalid limit: must be less than or equal to {most}.")
    return limit


class RowViewSet(WireViewSet):
    """Rows of one table, rendered by its projection. `missing` is the detail of its 404."""

    projection: ClassVar[Projection]
    missing: ClassVar[str] = "Not Found"

    def row(self, key: Any) -> WireRow:
        if (row := self.projection.one(key)) is None:
            raise NotFound(self.missing)
        return row

    def rows(self, rows: QuerySet[Any]) -> list[WireRow]:
        return self.projection.many(rows)

    def retrieve(self, request: Request, pk: Any) -> HttpResponse:
        return self.answer(self.row(pk))


class FilterActions(RowViewSet):
    """`/filter`, `/count` and `/paginate` over `keys`, the filters this resource takes (its own first).

    `sorts` maps the wire's sort names to columns; the key comes last so that pages never overlap. `ordering` is for a
    resource without a choice of sorts.
    """

    reads = frozenset({"filter", "count", "paginate", "history"})
    keys: ClassVar[tuple[str, ...]]
    own_filter: ClassVar[type[RowFilter] | None] = None  # where two tables share a key on the wire
    sorts: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    default_sort: ClassVar[str] = ""
    ordering: ClassVar[tuple[str, ...]] = ("pk",)
    _shapes: ClassVar[dict[str, type[EmbeddedBody]]]

    def queryset(self) -> QuerySet[Any]:
        return self.projection.model._default_manager.all()

    @classmethod
    def shape(cls, kind: str) -> type[EmbeddedBody]:
        """The body of `kind`: the filters, with what pages and sorts them."""
        if "_shapes" not in cls.__dict__:
            cls._shapes = {}
        shapes = cls._shapes
        if kind not in shapes:
            shapes[kind] = create_model(f"{cls.__name__}{kind.title()}", __base__=EmbeddedBody, **cls._fields(kind))
        return shapes[kind]

    @classmethod
    def filter_of(cls, key: str) -> type[RowFilter]:
        return cls.own_filter if cls.own_filter and key == cls.keys[0] else RowFilter.for_key(key)

    @classmethod
    def _fields(cls, kind: str) -> dict[str, Any]:
        fields: dict[str, Any] = {key: optional(cls.filter_of(key).shape()) for key in cls.keys}
        if kind in {"filter", "paginate"}:
            fields["limit"] = (int | None, None)
            if cls.sorts:
                names = StrEnum("Sort", {name: name for name in cls.sorts})  # type: ignore[misc]
                fields["sort"] = (names | None, None)
        if kind == "filter":
            fields["offset"] = (Annotated[int, Field(ge=0, le=MAX_OFFSET)] | None, None)
        if kind == "paginate":
            fields["page"] = (Annotated[int, Field(ge=1, le=MAX_OFFSET)] | None, None)
        return fields

    def matching(self, body: Any, rows: QuerySet[Any] | None = None) -> QuerySet[Any]:
        """The rows that the filters of `body` keep."""
        start = self.queryset() if rows is None else rows
        return self.filter_of(self.keys[0]).select(start, self.wire(body))

    def wire(self, body: Any) -> dict[str, Any]:
        """The filters that the body has, by key."""
        return {key: value for key in self.keys if (value := getattr(body, key, None)) is not None}

    def ordered(self, rows: QuerySet[Any], body: Any) -> QuerySet[Any]:
        order = self.sorts[str(body.sort or self.default_sort)] if self.sorts else self.ordering
        return rows.order_by(*order)

    def page_of(self, rows: list[WireRow]) -> list[WireRow]:
        """The items of a page, for a resource whose pages show less than its rows."""
        return rows

    def filter(self, request: Request) -> HttpResponse:
        body: Any = self.body(self.shape("filter"))
        limit = bounded_limit(body.limit)
        offset = body.offset or 0
        rows = self.ordered(self.matching(body), body)[offset : offset + limit]
        return self.answer(self.rows(rows) if limit else [])

    def count(self, request: Request) -> HttpResponse:
        return self.answer(self.matching(self.body(self.shape("count"))).count())

    def paginate(self, request: Request) -> HttpResponse:
        body: Any = self.body(self.shape("paginate"))
        limit = bounded_limit(body.limit)
        matching = self.matching(body)
        count = matching.count()
        page = body.page or 1
        offset = (page - 1) * limit
        found = self.rows(self.ordered(matching, body)[offset : offset + limit]) if limit and offset < count else []
        pages = math.ceil(count / limit) if limit else 0
        found = self.page_of(found)
        return self.answer({"results": found, "count": count, "limit": limit, "pages": pages, "page": page})

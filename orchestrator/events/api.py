"""`/events`. Contract: events_automations.md, section 2."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote

from django.http import HttpResponse
from pydantic import TypeAdapter, ValidationError
from rest_framework.request import Request

from orchestrator.core.errors import Forbidden, InvalidRequest
from orchestrator.core.routes import route
from orchestrator.core.viewsets import RowViewSet, documented, parse_body
from orchestrator.core.wire import NaturalInt, WireModel
from orchestrator.events import counting, recording
from orchestrator.events.filters import EventFilter
from orchestrator.events.projections import EVENT
from orchestrator.events.schemas import CountBody, EventBody, EventPage

EVENTS = TypeAdapter(list[EventBody])
PAGE = {
    "type": "object",
    "properties": {"events": {"type": "array"}, "total": {"type": "integer"}, "next_page": {"type": ["string", "null"]}},
}
COUNTABLE = ("day", "time", "event", "resource")


class PageToken(WireModel):
    """Where the next page begins: the filter, how many there are in all, the size of a page and its offset."""

    filter: EventFilter
    total: NaturalInt
    size: NaturalInt
    offset: NaturalInt

    def text(self) -> str:
        return urlsafe_b64encode(self.model_dump_json(exclude_none=True).encode()).decode()

    @classmethod
    def read(cls, text: str) -> PageToken:
        """Raises Forbidden for what this server did not give out."""
        try:
            return cls.model_validate_json(urlsafe_b64decode(text.encode()))
        except (binascii.Error, ValidationError, ValueError):
            raise Forbidden("Forbidden") from None


class EventViewSet(RowViewSet):
    reads = frozenset({"filter", "count_by"})
    projection = EVENT

    @documented(body=list[EventBody], status=204, summary="Store events; one that is sent again is stored once")
    def create(self, request: Request) -> HttpResponse:
        sent: Any = parse_body(request._request.body, strip_nul=True)
        try:
            events = EVENTS.validate_python(sent)
        except ValidationError as error:
            raise InvalidRequest.of(error, sent) from None
        recording.store(events)
        return self.nothing()

    @documented(body=EventPage, answer=PAGE, summary="Events, newest first, a page at a time")
    def filter(self, request: Request) -> HttpResponse:
        body = self.body(EventPage)
        asked = body.filter or EventFilter()
        ids = asked.id.id if asked.id else None
        size = min(body.limit, len(ids)) if ids else body.limit
        total = asked.select().count()
        return self.page(PageToken(filter=asked, total=total, size=size, offset=0))

    def next_page(self, request: Request) -> HttpResponse:
        text = request._request.GET.get("page-token")
        if text is None:
            raise InvalidRequest.single("missing", ("query", "page-token"), "Field required")
        return self.page(PageToken.read(text))

    def page(self, token: PageToken) -> HttpResponse:
        end = token.offset + token.size
        rows = self.rows(token.filter.select()[token.offset : end]) if token.size else []
        following = None
        if end < token.total:
            text = token.model_copy(update={"offset": end}).text()
            following = self.request.build_absolute_uri(f"/api/events/filter/next?page-token={quote(text)}")
        return self.answer({"events": rows, "total": token.total, "next_page": following})

    @documented(body=CountBody, summary="Events counted by day, time, event or resource")
    def count_by(self, request: Request, countable: str) -> HttpResponse:
        if countable not in COUNTABLE:
            message = "Input should be 'day', 'time', 'event' or 'resource'"
            raise InvalidRequest.single("enum", ("path", "countable"), message, countable[:100])
        body = self.body(CountBody)
        match countable:
            case "event":
                return self.answer(counting.by_name(body.filter))
            case "resource":
                return self.answer(counting.by_resource(body.filter))
            case "day":
                return self.answer(counting.by_time(body.filter, counting.UNITS["day"], 1))
        return self.answer(counting.by_time(body.filter, counting.UNITS[body.time_unit], body.time_interval))


urlpatterns = [
    route("events", EventViewSet, post="create"),
    route("events/filter", EventViewSet, post="filter"),
    route("events/filter/next", EventViewSet, get="next_page"),
    route("events/count-by/<str:countable>", EventViewSet, post="count_by"),
]

"""URL patterns of viewsets, written as the wire writes them."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, path, register_converter

from orchestrator.core.converters import WireIdConverter
from orchestrator.core.viewsets import WireViewSet

register_converter(WireIdConverter, "id")


def route(pattern: str, viewset: type[WireViewSet], **actions: str) -> URLPattern:
    """`pattern` answered by `viewset`; `actions` map an HTTP method to the viewset's method."""
    return path(pattern, viewset.as_view({**actions}))


def filter_routes(viewset: Any, *kinds: str) -> list[URLPattern]:
    """`/filter`, `/count`, `/paginate`, or those of them named."""
    return [route(kind, viewset, post=kind) for kind in kinds or ("filter", "count", "paginate")]

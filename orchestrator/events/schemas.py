"""Bodies of the event routes (contract: events_automations.md, sections 1 and 2)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from django.conf import settings
from pydantic import AfterValidator, ConfigDict, Field

from orchestrator.core.wire import EmbeddedBody, Object, UtcMoment, WireModel
from orchestrator.events.filters import EventFilter, WindowedFilter

MAX_PAGE = 50


def resource(labels: dict[str, str]) -> dict[str, str]:
    if not labels.get("prefect.resource.id"):
        raise ValueError("Resources must include the prefect.resource.id label")
    if len(labels) > settings.EVENTS_MAX_LABELS:
        raise ValueError(f"The maximum number of labels per resource is {settings.EVENTS_MAX_LABELS}")
    return labels


def related_resource(labels: dict[str, str]) -> dict[str, str]:
    if not labels.get("prefect.resource.role"):
        raise ValueError("Related Resources must include the prefect.resource.role label")
    return labels


def not_too_many(items: list[Any]) -> list[Any]:
    if len(items) > settings.EVENTS_MAX_RELATED:
        raise ValueError(f"The maximum number of related resources is {settings.EVENTS_MAX_RELATED}")
    return items


def short_name(name: str) -> str:
    if len(name) > settings.EVENTS_MAX_NAME:
        raise ValueError(f"Event name must be at most {settings.EVENTS_MAX_NAME} characters")
    return name


Resource = Annotated[dict[str, str], AfterValidator(resource)]
Related = Annotated[Resource, AfterValidator(related_resource)]


class EventBody(WireModel):
    """An event as a client sends it; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    occurred: UtcMoment
    event: Annotated[str, AfterValidator(short_name)]
    resource: Resource
    related: Annotated[list[Related], AfterValidator(not_too_many)] = []
    payload: Object = {}
    id: UUID
    follows: UUID | None = None


class EventPage(EmbeddedBody):
    filter: EventFilter | None = None
    limit: Annotated[int, Field(ge=0, le=MAX_PAGE)] = MAX_PAGE


class TimeUnit(StrEnum):
    week = "week"
    day = "day"
    hour = "hour"
    minute = "minute"
    second = "second"


class CountBody(EmbeddedBody):
    filter: WindowedFilter
    time_unit: TimeUnit = TimeUnit.day
    time_interval: Annotated[float, Field(ge=0.01, le=1e9, allow_inf_nan=False)] = 1.0

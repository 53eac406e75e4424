"""Filters of events: as SQL for those that are stored, in memory for those that arrive.

Contract: filters_sorts.md, section 3. A filter has no operator: everything is asked at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any
from uuid import UUID

import orjson
from django.db import connection
from django.db.models import BooleanField, Q, QuerySet, Value, Window
from django.db.models.expressions import Expression, F, OrderBy
from django.db.models.fields import TextField
from django.db.models.functions import Cast, Concat, Lower, RowNumber
from django.db.models.lookups import Contains
from pydantic import Field

from orchestrator.core.text_search import MAX_QUERY, Words
from orchestrator.core.wire import UtcMoment, WireModel
from orchestrator.events.models import Event

ID = "prefect.resource.id"
ROLE = "prefect.resource.role"
DEFAULT_WINDOW = timedelta(days=180)
MAX_VALUES = 500

Texts = Annotated[list[str], Field(max_length=MAX_VALUES)]
Labels = dict[str, str | Texts]
Resource = dict[str, str]


def window_start() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - DEFAULT_WINDOW


def now() -> datetime:
    return datetime.now(UTC)


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class OccurredFilter(WireModel):
    since: UtcMoment = Field(default_factory=window_start)
    until: UtcMoment = Field(default_factory=now)


class NameFilter(WireModel):
    prefix: Texts | None = None
    exclude_prefix: Texts | None = None
    name: Texts | None = None
    exclude_name: Texts | None = None

    def q(self) -> Q:
        asked = Q()
        if self.prefix:
            asked &= any_of(Q(event__startswith=text) for text in self.prefix)
        if self.exclude_prefix:
            asked &= ~any_of(Q(event__startswith=text) for text in self.exclude_prefix)
        if self.name:
            asked &= Q(event__in=self.name)
        if self.exclude_name:
            asked &= ~Q(event__in=self.exclude_name)
        return asked

    def matches(self, event: str) -> bool:
        return (
            (not self.prefix or event.startswith(tuple(self.prefix)))
            and not (self.exclude_prefix and event.startswith(tuple(self.exclude_prefix)))
            and (not self.name or event in self.name)
            and event not in (self.exclude_name or ())
        )


class ResourceFilter(WireModel):
    """What one resource must be: one of these ids, with these labels."""

    id: Texts | None = None
    id_prefix: Texts | None = None
    labels: Labels | None = None

    def conditions(self) -> list[Condition]:
        asked = []
        if self.id:
            asked.append(among(ID, self.id))
        if self.id_prefix:
            asked.append(alternatives([like(ID, escaped(text) + "%") for text in self.id_prefix]))
        for label, patterns in (self.labels or {}).items():
            asked += label_conditions(label, as_list(patterns))
        return asked

    def matches(self, resource: Resource) -> bool:
        own = resource.get(ID, "")
        return (
            (not self.id or own in self.id)
            and (not self.id_prefix or own.startswith(tuple(self.id_prefix)))
            and all(label_matches(resource, label, as_list(patterns)) for label, patterns in (self.labels or {}).items())
        )


class PrimaryResourceFilter(ResourceFilter):
    distinct: bool = False


class RelatedFilter(WireModel):
    """What one related resource must be; without a role it is not the primary one."""

    id: Texts | None = None
    role: Texts | None = None
    resources_in_roles: Annotated[list[tuple[str, str]], Field(max_length=MAX_VALUES)] | None = None
    labels: Labels | None = None

    def conditions(self) -> list[Condition]:
        asked = []
        if self.id:
            asked.append(among(ID, self.id))
        if self.role:
            asked.append(among(ROLE, self.role))
        if self.resources_in_roles:
            pairs = [together([among(ID, [key]), among(ROLE, [role])]) for key, role in self.resources_in_roles]
            asked.append(alternatives(pairs))
        for label, patterns in (self.labels or {}).items():
            asked += label_conditions(label, as_list(patterns))
        return asked


class IdFilter(WireModel):
    id: Annotated[list[UUID], Field(max_length=10_000)] | None = None


class TextFilter(WireModel):
    query: Annotated[str, Field(max_length=MAX_QUERY)]


class Order(StrEnum):
    ASC = "ASC"
    DESC = "DESC"


class EventFilter(WireModel):
    occurred: OccurredFilter = Field(default_factory=OccurredFilter)
    event: NameFilter | None = None
    resource: PrimaryResourceFilter | None = None
    related: RelatedFilter | list[RelatedFilter] | None = None
    any_resource: ResourceFilter | list[ResourceFilter] | None = None
    id: IdFilter | None = None
    text: TextFilter | None = None
    order: Order = Order.DESC

    def q(self) -> Q:
        """The rows that the filter keeps, but for `distinct`."""
        asked = Q(occurred__gte=self.occurred.since, occurred__lte=self.occurred.until)
        if self.event:
            asked &= self.event.q()
        if self.resource:
            asked &= primary_q(self.resource)
        for related in each(self.related):
            asked &= resources_q(related.id, related.conditions(), with_primary=bool(related.role))
        for anyone in each(self.any_resource):
            asked &= resources_q(anyone.id, anyone.conditions(), with_primary=True)
        if self.id and self.id.id:
            asked &= Q(id__in=self.id.id)
        if self.text and self.text.query.strip():
            asked &= Words.of(self.text.query).combined(lambda word: Q(Contains(SEARCHED, word)), Q())
        return asked

    def select(self) -> QuerySet[Event]:
        """The events that the filter keeps, in its order."""
        order = ("occurred", "position") if self.order == Order.ASC else ("-occurred", "-position")
        rows = Event.objects.filter(self.q())
        if self.resource and self.resource.distinct:
            first = OrderBy(F("occurred"), descending=self.order == Order.DESC)
            rows = rows.annotate(
                place=Window(RowNumber(), partition_by=[F("resource_id")], order_by=[first, F("position").asc()])
            ).filter(place=1)
        return rows.order_by(*order)

    def matches(self, event: dict[str, Any]) -> bool:
        """Whether an event that arrives is one of these. What is asked of related resources decides nothing here."""
        resource, related = event["resource"], event["related"]
        return (
            self.occurred.since <= event["occurred"] <= self.occurred.until
            and (self.event is None or self.event.matches(event["event"]))
            and (self.resource is None or self.resource.matches(resource))
            and all(any(asked.matches(one) for one in (resource, *related)) for asked in each(self.any_resource))
            and not (self.id and self.id.id and event["id"] not in self.id.id)
            and (self.text is None or Words.of(self.text.query).found_in(searched(event)))
        )


class WindowedFilter(EventFilter):
    """A filter that must be given, as counts need one."""


def each(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def any_of(clauses: Iterable[Q]) -> Q:
    found = Q()
    for clause in clauses:
        found |= clause
    return found


def searched(event: dict[str, Any]) -> str:
    """The text of an event that arrives, to search in."""
    return " ".join([event["event"], *event["resource"].values(), orjson.dumps(event["payload"]).decode()])


SEARCHED = Lower(
    Concat(
        "event",
        Value(" "),
        Cast("resource", TextField()),
        Value(" "),
        Cast("related", TextField()),
        Value(" "),
        Cast("payload", TextField()),
        output_field=TextField(),
    )
)

# --- labels of a resource, as SQL over one JSON object ----------------------------------------------------------------

# A piece of SQL with `{label}` where the text of a label stands, the label, and its further parameters.
Condition = tuple[str, list[Any]]


def text_of(label: str) -> Condition:
    """The text under a label of the object `{resource}`."""
    if connection.vendor == "postgresql":
        return "({resource} ->> %s)", [label]
    path = '$."' + label.replace('"', '""') + '"'
    return "json_extract({resource}, %s)", [path]


def among(label: str, values: list[str]) -> Condition:
    text, params = text_of(label)
    return f"{text} IN ({', '.join(['%s'] * len(values))})", [*params, *values]


def like(label: str, pattern: str, *, negated: bool = False) -> Condition:
    text, params = text_of(label)
    return f"{text} {'NOT ' if negated else ''}LIKE %s ESCAPE '\\'", [*params, pattern]


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def glob(pattern: str) -> str:
    """A pattern with `*` and `?` as one of LIKE."""
    return escaped(pattern).replace("*", "%").replace("?", "_")


def alternatives(conditions: list[Condition]) -> Condition:
    return f"({' OR '.join(sql for sql, _ in conditions)})", [param for _, params in conditions for param in params]


def together(conditions: list[Condition]) -> Condition:
    return f"({' AND '.join(sql for sql, _ in conditions)})", [param for _, params in conditions for param in params]


def label_conditions(label: str, patterns: list[str]) -> list[Condition]:
    """What a label must be: one of the patterns; a missing one is none of them."""
    if not patterns:
        return [] if label in {ID, ROLE} else [("1 = 0", [])]
    if label == ROLE:
        return [among(ROLE, patterns)]
    return [
        alternatives([like(label, glob(p[1:]), negated=True) if p.startswith("!") else like(label, glob(p)) for p in patterns])
    ]


def label_matches(resource: Resource, label: str, patterns: list[str]) -> bool:
    if not patterns:
        return label in {ID, ROLE}
    if (value := resource.get(label)) is None:
        return False
    return any(not fnmatchcase(value, p[1:]) if p.startswith("!") else fnmatchcase(value, p) for p in patterns)


class Matching(Expression):
    """Whether the resource of an event, or one of its related ones, meets all conditions at once."""

    conditional = True

    def __init__(self, conditions: list[Condition], *, primary: bool, related: bool) -> None:
        super().__init__(output_field=BooleanField())
        self.asked = together(conditions) if conditions else ("1 = 1", [])
        self.primary = primary
        self.related = related

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        table = f'"{Event._meta.db_table}"'
        sql, params = self.asked
        ways, given = [], []
        if self.primary:
            ways.append(sql.format(resource=f'{table}."resource"'))
            given += params
        if self.related:
            postgresql = connection.vendor == "postgresql"
            unnested = "jsonb_array_elements" if postgresql else "json_each"
            item = "one.value"
            ways.append(
                f'EXISTS (SELECT 1 FROM {unnested}({table}."related") AS one WHERE {sql.format(resource=item)})'  # noqa: S608
            )
            given += params
        return f"({' OR '.join(ways)})", given


def primary_q(asked: ResourceFilter) -> Q:
    found = Q(resource_id__in=asked.id) if asked.id else Q()
    if asked.id_prefix:
        found &= any_of(Q(resource_id__startswith=text) for text in asked.id_prefix)
    conditions = [item for label, patterns in (asked.labels or {}).items() for item in label_conditions(label, as_list(patterns))]
    return found & Q(Matching(conditions, primary=True, related=False)) if conditions else found


def resources_q(ids: list[str] | None, conditions: list[Condition], *, with_primary: bool) -> Q:
    """One resource that meets all conditions. Ids are looked up by the index over all of an event's resources first."""
    if not conditions:
        return Q()
    found = Q(Matching(conditions, primary=with_primary, related=True))
    return Q(resource_ids__has_any=ids) & found if ids else found

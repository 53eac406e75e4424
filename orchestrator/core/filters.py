"""Filter bodies as nested subqueries. Contract: filters_sorts.md, sections 1 and 5.

No join touches the outer query, so no row comes twice and a count is honest. A tie to one row is `IN (SELECT …)`, from which
either side may lead; a tie to many is `EXISTS`, which stops at the first match.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import django_filters
from django.apps import apps
from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from pydantic import BaseModel, create_model

from orchestrator.core.criteria import Criterion, Group, Operator, combine, optional
from orchestrator.core.wire import WireModel

Wire = Mapping[str, Any]


class Through:
    """Rows of another table tied to this one, named by label as a ForeignKey names them.

    `carries` are the further keys asked of the same row; `ties` map that table's column to this one's.
    """

    def __init__(self, label: str, *carries: str, **ties: str) -> None:
        self.label = label
        self.carries = carries
        self.ties = ties

    def q(self, key: str, wire: Wire) -> Q:
        related = RowFilter.of(self.label)
        asked = {related.wire_key if name == key else name: wire[name] for name in (key, *self.carries) if name in wire}
        manager = apps.get_model(self.label)._default_manager
        if set(self.ties) == {"id"}:
            return Q(**{f"{self.ties['id']}__in": related.select(manager.all(), asked).values("pk")})
        rows = manager.filter(**{column: OuterRef(path) for column, path in self.ties.items()})
        return Q(Exists(related.select(rows, asked)))


class RowFilter(django_filters.FilterSet):
    """The filter of one table: its key on the wire, its criteria, and its ties to other tables.

    Criteria are declared as in any FilterSet; values come validated from the wire, so no form is ever built.
    """

    wire_key: ClassVar[str]
    label: ClassVar[str]
    joinable: ClassVar[bool] = True
    through: ClassVar[dict[str, Through]] = {}

    base_filters: ClassVar[dict[str, Any]]
    _shape: ClassVar[type[BaseModel]]
    _by_label: ClassVar[dict[str, type[RowFilter]]] = {}
    _by_key: ClassVar[dict[str, type[RowFilter]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        RowFilter._by_label[cls.label] = cls
        RowFilter._by_key.setdefault(cls.wire_key, cls)

    @classmethod
    def of(cls, label: str) -> type[RowFilter]:
        return RowFilter._by_label[label]

    @classmethod
    def for_key(cls, key: str) -> type[RowFilter]:
        return RowFilter._by_key["work_pool_queues" if key == "work_queues" else key]

    @classmethod
    def shape(cls) -> type[BaseModel]:
        """The pydantic shape of this filter's body."""
        if "_shape" not in cls.__dict__:
            fields: dict[str, Any] = {name: optional(item.shape) for name, item in cls.base_filters.items()}
            if cls.joinable:
                fields["operator"] = (Operator, "and_")
            cls._shape = create_model(f"{cls.__name__}Body", __base__=WireModel, **fields)
        return cls._shape

    @classmethod
    def q(cls, body: BaseModel) -> Q:
        """What the body asks of a row itself."""
        criteria: Mapping[str, Criterion | Group] = cls.base_filters
        clauses = [item.q(value) for name, item in criteria.items() if (value := getattr(body, name)) is not None]
        return combine(clauses, getattr(body, "operator", "and_"))

    @classmethod
    def select(cls, rows: QuerySet[Any], wire: Wire) -> QuerySet[Any]:
        """`rows` that match `wire[cls.wire_key]` and have a matching row in every tied table asked about."""
        if (own := wire.get(cls.wire_key)) is not None:
            rows = rows.filter(cls.q(own))
        for key, tie in cls.through.items():
            if wire.keys() & {key, *tie.carries}:
                rows = rows.filter(tie.q(key, wire))
        return rows


def select(model: type[Model], key: str, body: BaseModel | None) -> QuerySet[Any]:
    """The rows of `model` that one filter body keeps; all of them when there is none."""
    return RowFilter.for_key(key).select(model._default_manager.all(), {} if body is None else {key: body})

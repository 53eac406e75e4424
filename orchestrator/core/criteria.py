"""Criteria of filters: a wire operator and a value → a Q. Contract: filters_sorts.md, sections 1 and 2. Pure but for Q."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, reduce
from operator import and_, or_
from typing import Annotated, Any, Literal
from uuid import UUID

import django_filters
from django.db.models import Q
from pydantic import AfterValidator, BaseModel, Field, create_model

from orchestrator.core.wire import MAX_LIST, WireModel

MAX_LIKE = 1_000
MAX_WILDCARDS = 10
MAX_ALTERNATIVES = 200
FEW = 10

Operator = Literal["and_", "or_"]
NOTHING = Q(pk__in=[])
ANYTHING = Q()


def _few_wildcards(text: str) -> str:
    if text.count("%") > MAX_WILDCARDS:
        raise ValueError(f"A pattern may have at most {MAX_WILDCARDS} wildcards.")
    return text


Pattern = Annotated[str, Field(max_length=MAX_LIKE), AfterValidator(_few_wildcards)]


def every(path: str, value: list[Any]) -> Q:
    return Q(**{f"{path}__has_all": value}) if value else ANYTHING


def some(path: str, value: list[Any]) -> Q:
    return Q(**{f"{path}__has_any": value}) if value else NOTHING


def empty(path: str, value: bool) -> Q:
    return Q(**{path: []}) if value else ~Q(**{path: []})


def member(path: str, value: list[Any]) -> Q:
    """One of a list. Many keys go to the database as one parameter; of few it sees better what they are."""
    lookup = "among" if len(value) > FEW and isinstance(value[0], UUID) else "in"
    return Q(**{f"{path}__{lookup}": value})


def within(path: str, value: list[Any]) -> Q:
    return member(path, value) if value else NOTHING


def outside(path: str, value: list[Any]) -> Q:
    # SQL's NOT IN: a null is neither in the list nor outside of it.
    return ~member(path, value) & Q(**{f"{path}__isnull": False}) if value else ANYTHING


def like(path: str, value: str) -> Q:
    return Q(**{f"{path}__wire_like": f"%{value}%"}) if value else ANYTHING


def starting(path: str, value: list[str]) -> Q:
    return either(Q(**{f"{path}__wire_like": f"{item}%"}) for item in value)


def compared(lookup: str) -> Callable[[str, Any], Q]:
    return lambda path, value: Q(**{f"{path}__{lookup}": value})


def present(path: str, value: bool) -> Q:
    return Q(**{f"{path}__isnull": not value})


OPERATORS: Mapping[str, Callable[[str, Any], Q]] = {
    "any_": within,
    "not_any_": outside,
    "like_": like,
    "startswith_": starting,
    "before_": compared("lte"),
    "after_": compared("gte"),
    "is_null_": compared("isnull"),
    "exists_": present,
    "eq_": compared("exact"),
    "ge_": compared("gte"),
    "le_": compared("lte"),
    "id_": within,
    "type_": within,
}
TAG_OPERATORS: Mapping[str, Callable[[str, Any], Q]] = {"all_": every, "any_": some, "is_null_": empty}


def either(clauses: Any) -> Q:
    """OR of the clauses; anything when one of them is anything, or when there are none."""
    clauses = list(clauses)
    return reduce(or_, clauses) if clauses and all(clauses) else ANYTHING


def combine(clauses: list[Q], operator: str) -> Q:
    return either(clauses) if operator == "or_" else reduce(and_, clauses, Q())


def optional(type_: Any) -> Any:
    return (type_ | None, None)


class Criterion(django_filters.Filter):
    """One key of a filter: which operators it has, of which type, on which path.

    `paths` names the path of an operator that looks elsewhere than the rest; `joinable` says that the criterion itself
    takes `operator`.
    """

    table = OPERATORS

    def __init__(self, value: Any, operators: str, *, path: str = "", joinable: bool = False, **paths: str) -> None:
        super().__init__(field_name=path)
        self.value = value
        self.operators = operators.split()
        self.joinable = joinable
        self.paths = paths

    def filter(self, qs: Any, value: Any) -> Any:
        return qs.filter(self.q(value))

    def type_of(self, operator: str) -> Any:
        if operator in {"is_null_", "exists_", "eq_"}:
            return bool
        if operator == "like_":
            return Pattern
        if operator == "startswith_":
            return Annotated[list[Pattern], Field(max_length=MAX_ALTERNATIVES)]
        if operator in {"before_", "after_", "ge_", "le_"}:
            return self.value
        return Annotated[list[self.value], Field(max_length=MAX_LIST)]  # type: ignore[name-defined]

    @cached_property
    def shape(self) -> type[BaseModel]:
        fields: dict[str, Any] = {name: optional(self.type_of(name)) for name in self.operators}
        if self.joinable:
            fields["operator"] = (Operator, "and_")
        return create_model(f"{type(self).__name__}Body", __base__=WireModel, **fields)

    def given(self, body: Any) -> dict[str, Any]:
        """The operators of `body` that carry a value."""
        return {name: value for name in self.operators if (value := getattr(body, name)) is not None}

    def q(self, body: Any) -> Q:
        clauses = [self.table[name](self.paths.get(name) or self.field_name, value) for name, value in self.given(body).items()]
        return combine(clauses, getattr(body, "operator", "and_"))


class TagsCriterion(Criterion):
    """A list of tags: superset, intersection, emptiness."""

    table = TAG_OPERATORS

    def __init__(self, operators: str = "all_ any_ is_null_", *, path: str = "tags") -> None:
        super().__init__(str, operators, path=path, joinable=True)


class IgnoredCriterion(Criterion):
    """A criterion that the wire accepts and that decides nothing."""

    def q(self, body: Any) -> Q:
        return ANYTHING


class Group(django_filters.Filter):
    """Criteria under one key. An empty member is left out rather than true, and one with both lists is left out too."""

    def __init__(self, **members: Criterion) -> None:
        super().__init__()
        self.members = members

    @cached_property
    def shape(self) -> type[BaseModel]:
        fields: dict[str, Any] = {name: optional(member.shape) for name, member in self.members.items()}
        return create_model("GroupBody", __base__=WireModel, operator=(Operator, "and_"), **fields)

    def filter(self, qs: Any, value: Any) -> Any:
        return qs.filter(self.q(value))

    def q(self, body: Any) -> Q:
        clauses = []
        for name, member in self.members.items():
            value = getattr(body, name)
            given = member.given(value) if value is not None else {}
            both = given.get("any_") is not None and given.get("not_any_")
            if given and not both:
                clauses.append(member.q(value))
        return combine(clauses, body.operator)

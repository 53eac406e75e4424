"""What a request's schedules do to those a deployment has (contract: flows_deployments.md, section 4.1). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar


class Existing(Protocol):
    @property
    def slug(self) -> str | None: ...


class Given(Protocol):
    schedule: Any
    slug: str | None
    replaces: str | None


Row = TypeVar("Row", bound=Existing)
Item = TypeVar("Item", bound=Given)


class UnclearSchedules(ValueError):
    """Which schedule an item means, or what it should become, cannot be told; the text says why."""


@dataclass(frozen=True)
class SchedulePlan(Generic[Row, Item]):
    """Delete every schedule or none, then change some, then create some."""

    replace_all: bool = False
    changes: list[tuple[Row, Item]] = field(default_factory=list)
    creations: list[Item] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.replace_all or self.changes or self.creations)


def plan_schedules(existing: Sequence[Row], given: Sequence[Item] | None) -> SchedulePlan[Row, Item]:
    """The plan for the schedules of an update; None stands for an absent key. Raises UnclearSchedules.

    Where every schedule has a slug, items are merged by slug; otherwise they take the place of all.
    """
    if given is None:
        return SchedulePlan()
    if not existing or any(row.slug is None for row in existing):
        return SchedulePlan(replace_all=True, creations=[item for item in given if item.schedule is not None])
    if any(item.slug is None for item in given):
        raise UnclearSchedules(
            "Please provide a slug for each schedule in your request to ensure schedules are updated correctly."
        )
    return _merge({str(row.slug): row for row in existing}, given)


def _merge(existing: dict[str, Row], given: Sequence[Item]) -> SchedulePlan[Row, Item]:
    _check_renames(existing, given)
    plan: SchedulePlan[Row, Item] = SchedulePlan()
    for item in given:
        row = existing.get(item.replaces or "") or existing.get(item.slug or "")
        if row is not None:
            plan.changes.append((row, item))
        elif item.schedule is not None:
            plan.creations.append(item)
        else:
            raise UnclearSchedules("Unable to create new deployment schedules without a schedule configuration.")
    return plan


def _check_renames(existing: dict[str, Row], given: Sequence[Item]) -> None:
    replaced = Counter(item.replaces for item in given if item.replaces)
    if twice := next((slug for slug, times in replaced.items() if times > 1), None):
        raise UnclearSchedules(f"Multiple schedules have 'replaces' targeting the same slug: {twice}")
    for item in given:
        renamed = item.replaces in existing and item.slug != item.replaces
        if renamed and item.slug in existing and item.slug not in replaced:
            raise UnclearSchedules(
                f"Cannot rename schedule from '{item.replaces}' to '{item.slug}': "
                f"a schedule with slug '{item.slug}' already exists."
            )

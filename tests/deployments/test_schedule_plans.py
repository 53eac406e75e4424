"""What a request's schedules do to those a deployment has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from deployments.schedule_plans import UnclearSchedules, plan_schedules


@dataclass(frozen=True)
class Row:
    slug: str | None


@dataclass(frozen=True)
class Item:
    slug: str | None = None
    replaces: str | None = None
    schedule: Any = "daily"


A, B, PLAIN = Row("a"), Row("b"), Row(None)


def test_an_absent_key_changes_nothing() -> None:
    assert plan_schedules([A], None).empty


def test_an_empty_list_changes_nothing_where_all_schedules_have_slugs() -> None:
    assert plan_schedules([A, B], []).empty


def test_an_empty_list_clears_where_a_schedule_has_no_slug() -> None:
    plan = plan_schedules([A, PLAIN], [])
    assert plan.replace_all and not plan.creations


def test_schedules_without_slugs_are_replaced_and_items_without_a_schedule_dropped() -> None:
    plan = plan_schedules([PLAIN], [Item("x"), Item("y", schedule=None)])
    assert plan.replace_all and plan.creations == [Item("x")]


def test_a_named_schedule_is_changed_and_a_new_one_made_while_others_stay() -> None:
    plan = plan_schedules([A, B], [Item("a"), Item("new")])
    assert (plan.replace_all, plan.changes, plan.creations) == (False, [(A, Item("a"))], [Item("new")])


def test_replaces_points_at_the_schedule_to_rename() -> None:
    renamed = Item("c", replaces="a")
    assert plan_schedules([A, B], [renamed]).changes == [(A, renamed)]


def test_two_schedules_may_swap_their_slugs() -> None:
    items = [Item("b", replaces="a"), Item("a", replaces="b")]
    assert plan_schedules([A, B], items).changes == [(A, items[0]), (B, items[1])]


def test_replaces_of_a_slug_that_is_gone_makes_a_schedule() -> None:
    item = Item("c", replaces="gone")
    assert plan_schedules([A], [item]).creations == [item]


def test_the_same_renaming_sent_again_finds_the_renamed_schedule() -> None:
    item = Item("b", replaces="gone")
    assert plan_schedules([B], [item]).changes == [(B, item)]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (
            [Item()],
            "Please provide a slug for each schedule in your request to ensure schedules are updated correctly.",
        ),
        ([Item("x", schedule=None)], "Unable to create new deployment schedules without a schedule configuration."),
        (
            [Item("x", replaces="a"), Item("y", replaces="a")],
            "Multiple schedules have 'replaces' targeting the same slug: a",
        ),
        (
            [Item("b", replaces="a")],
            "Cannot rename schedule from 'a' to 'b': a schedule with slug 'b' already exists.",
        ),
    ],
)
def test_what_is_unclear_is_refused_with_the_reason(items: list[Item], reason: str) -> None:
    with pytest.raises(UnclearSchedules) as refusal:
        plan_schedules([A, B], items)
    assert str(refusal.value) == reason

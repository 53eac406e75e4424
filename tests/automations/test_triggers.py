"""When a trigger fires: with a stopped clock and no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from orchestrator.automations import triggers
from orchestrator.automations.schemas import CompoundTrigger, EventTrigger, SequenceTrigger
from orchestrator.automations.triggers import Bucket, ChildFiring

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(name: str = "e", seconds: float = 0, resource: str = "r", **labels: str) -> dict[str, Any]:
    own = {"prefect.resource.id": resource, **labels}
    return {"event": name, "occurred": at(seconds), "resource": own, "related": [], "payload": {}, "id": uuid4()}


def trigger(**fields: Any) -> EventTrigger:
    return EventTrigger.model_validate({"posture": "Reactive", **fields})


class Watched:
    """A trigger with its one bucket, as events and time pass."""

    def __init__(self, **fields: Any) -> None:
        self.trigger = trigger(**fields)
        self.bucket: Bucket | None = triggers.first_bucket(self.trigger, NOON)

    def sees(self, name: str, seconds: float, now: float | None = None) -> bool:
        seen = event(name, seconds)
        if not triggers.concerns(self.trigger, seen):
            return False
        moment = at(seconds if now is None else now)
        if self.bucket and triggers.forgotten(self.trigger, self.bucket, moment):
            self.bucket = None
        step = triggers.step(self.trigger, self.bucket, seen, moment)
        self.bucket = step.bucket
        return step.fires

    def waits(self, until: float) -> bool:
        if self.bucket is None:
            self.bucket = triggers.first_bucket(self.trigger, at(until))
            return False
        step = triggers.ended(self.trigger, self.bucket, at(until))
        self.bucket = step.bucket
        return step.fires


def test_without_a_window_every_event_fires_or_every_third() -> None:
    always = Watched(expect=["e"])
    assert [always.sees("e", i) for i in range(3)] == [True, True, True]
    third = Watched(expect=["e"], threshold=3)
    assert [third.sees("e", i) for i in range(7)] == [False, False, True, False, False, True, False]


def test_a_count_without_a_window_is_forgotten_after_a_minute() -> None:
    second = Watched(expect=["e"], threshold=2)
    assert not second.sees("e", 0)
    assert not second.sees("e", 61)
    assert second.sees("e", 62)


def test_so_many_within_a_window_fire_once_in_it() -> None:
    watched = Watched(expect=["e"], threshold=3, within=60)
    assert [watched.sees("e", i) for i in (0, 10, 20, 30, 40, 50)] == [False, False, True, False, False, False]
    assert [watched.sees("e", i) for i in (61, 62, 63)] == [False, False, True]


def test_one_within_a_window_is_the_first() -> None:
    watched = Watched(expect=["e"], within=60)
    assert [watched.sees("e", i) for i in (0, 1, 59, 61, 62)] == [True, False, False, True, False]


def test_a_window_that_ends_unfilled_gives_way_to_the_next() -> None:
    watched = Watched(expect=["e"], threshold=2, within=10)
    assert [watched.sees("e", i) for i in (0, 11, 12)] == [False, False, True]


def test_events_that_come_late_still_count_for_their_window() -> None:
    watched = Watched(expect=["e"], threshold=2, within=10)
    assert not watched.sees("e", 0)
    assert watched.sees("e", -300, now=5)


def test_after_something_only_what_comes_in_time_counts() -> None:
    watched = Watched(after=["start"], expect=["stop"], within=10)
    assert not watched.sees("stop", 0)
    assert not watched.sees("start", 1)
    assert watched.sees("stop", 5)
    assert not watched.sees("stop", 6)
    assert not watched.sees("start", 20)
    assert not watched.sees("stop", 31)


def test_an_event_that_is_both_does_not_count_for_the_window_it_opens() -> None:
    watched = Watched(after=["beat"], expect=["beat"], within=10)
    assert [watched.sees("beat", i) for i in (0, 5, 6, 7)] == [False, True, False, True]


def test_silence_fires_again_and_again() -> None:
    watched = Watched(posture="Proactive", expect=["beat"], within=10)
    assert [watched.waits(i) for i in (5, 10, 15, 20)] == [False, True, False, True]


def test_what_is_expected_and_comes_does_not_fire() -> None:
    watched = Watched(posture="Proactive", expect=["beat"], within=10)
    watched.sees("beat", 4)
    assert not watched.waits(10)
    assert watched.bucket is None
    assert not watched.waits(11)
    assert watched.waits(21)


def test_a_job_that_does_not_end_is_told_of_and_one_that_does_is_not() -> None:
    bad, good = (Watched(posture="Proactive", after=["start"], expect=["stop"], within=10, for_each=["x"]) for _ in "ab")
    for each in (bad, good):
        assert not each.waits(0)
        each.sees("start", 0)
    good.sees("stop", 5)
    assert [bad.waits(i) for i in (9, 11, 30)] == [False, True, False] if bad.bucket else False
    assert good.bucket is None


def test_a_heartbeat_starts_the_wait_anew() -> None:
    watched = Watched(posture="Proactive", after=["beat"], expect=["beat"], within=10)
    for second in (0, 8, 16, 24):
        watched.sees("beat", second)
        assert watched.bucket is not None
        assert not watched.waits(second + 1)
    assert watched.bucket is not None
    assert watched.bucket.end == at(34)
    assert watched.waits(34)


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({"expect": ["e"]}, True),
        ({"expect": ["other", "e*"]}, True),
        ({"expect": ["prefect.flow-run.*"]}, False),
        ({"expect": []}, True),
        ({"expect": ["x"], "after": ["e"]}, True),
        ({"match": {"prefect.resource.id": "r*"}}, True),
        ({"match": {"prefect.resource.id": ["a", "r"]}}, True),
        ({"match": {"colour": "!red"}}, True),
        ({"match": {"colour": "!blue"}}, False),
        ({"match": {"missing": "!x"}}, False),
        ({"match_related": {"prefect.resource.role": "flow"}}, True),
        ({"match_related": [{"prefect.resource.role": "flow"}, {"prefect.resource.id": "f.2"}]}, False),
        ({"match_related": [{}, {"prefect.resource.id": "f.?", "prefect.resource.role": "flow"}]}, True),
    ],
)
def test_a_trigger_looks_at_what_it_says(fields: dict[str, Any], matches: bool) -> None:
    seen = event(colour="blue") | {"related": [{"prefect.resource.id": "f.1", "prefect.resource.role": "flow"}]}
    assert triggers.concerns(trigger(**fields), seen) is matches


def test_buckets_are_told_apart_by_labels() -> None:
    asked = trigger(for_each=["prefect.resource.id", "related:flow:prefect.resource.name", "missing"])
    seen = event() | {"related": [{"prefect.resource.id": "f", "prefect.resource.role": "flow", "prefect.resource.name": "etl"}]}
    assert triggers.labels_of(asked, seen) == {
        "missing": "",
        "prefect.resource.id": "r",
        "related:flow:prefect.resource.name": "etl",
    }


CHILDREN = [{"type": "event", "posture": "Reactive", "expect": [name]} for name in "ab"]


def compound(require: Any, within: float | None = 10) -> CompoundTrigger:
    return CompoundTrigger.model_validate({"type": "compound", "triggers": CHILDREN, "require": require, "within": within})


def firings(of: Any, *moments: tuple[int, float]) -> list[ChildFiring]:
    return triggers.fresh(of, [ChildFiring(str(of.triggers[child].id), at(seconds)) for child, seconds in moments])


@pytest.mark.parametrize(
    ("require", "moments", "fires"),
    [
        ("any", [(0, 0)], True),
        ("all", [(0, 0)], False),
        ("all", [(0, 0), (1, 9)], True),
        ("all", [(0, 0), (1, 11)], False),
        (2, [(1, 0), (0, 5)], True),
    ],
)
def test_a_compound_fires_when_enough_of_its_children_have(require: Any, moments: list[Any], fires: bool) -> None:
    of = compound(require)
    assert triggers.complete(of, firings(of, *moments)) is fires


def test_without_a_window_children_have_all_the_time() -> None:
    of = compound("all", None)
    assert triggers.complete(of, firings(of, (0, 0), (1, 1e6)))


def test_a_sequence_fires_in_its_order_alone() -> None:
    of = SequenceTrigger.model_validate({"type": "sequence", "triggers": CHILDREN, "within": 10})
    assert triggers.complete(of, firings(of, (0, 0), (1, 1)))
    assert not triggers.complete(of, firings(of, (1, 0), (0, 1)))
    assert not triggers.complete(of, firings(of, (1, 0)))


@pytest.mark.parametrize(
    "fields",
    [
        {"posture": "Lazy"},
        {"threshold": 0},
        {"within": -1},
        {"within": "soon"},
        {"posture": "Proactive", "within": 5},
        {"posture": "Proactive", "within": None},
        {"extra": 1},
    ],
)
def test_a_trigger_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        trigger(**fields)


def test_a_proactive_trigger_has_a_window_of_ten_seconds_at_least() -> None:
    assert trigger(posture="Proactive").within == 10
    assert trigger(posture="Proactive", within=0).within == 10

"""When an automation fires: a trigger, what it has counted so far, and an event → what it counts now, and whether it fires.

Pure: no clock and no database. Contract: events_automations.md, section 8. Times of events are their senders'; `now` is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from orchestrator.automations.schemas import CompoundTrigger, EventTrigger, Posture, SequenceTrigger
from orchestrator.events.filters import as_list, label_matches

# How far back a window of a reactive trigger reaches, so that events that come late still count.
BACKDATED = timedelta(minutes=15)
# How long after its end, or for a trigger without a window after its beginning, an unfilled count is kept.
FORGOTTEN_AFTER = timedelta(seconds=60)

Wire = Mapping[str, Any]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Bucket:
    """What a trigger has counted for one key: events from `start` to `end`, and the last of them."""

    start: datetime
    end: datetime
    count: int = 0
    last_event: Any = None

    def holds(self, occurred: datetime) -> bool:
        return self.start <= occurred <= self.end

    def counted(self, event: Wire) -> Bucket:
        return replace(self, count=self.count + 1, last_event=event)


@dataclass(frozen=True)
class Step:
    """What follows from an event: the bucket to keep (None: none), and whether the trigger fires."""

    bucket: Bucket | None
    fires: bool = False


@lru_cache(maxsize=4_096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")))


def names(patterns: Iterable[str], event: str) -> bool:
    """Whether one of the patterns names the event; `*` stands for any text."""
    return any(pattern == event or ("*" in pattern and _pattern(pattern).fullmatch(event)) for pattern in patterns)


def expects(trigger: EventTrigger, event: str) -> bool:
    return not trigger.expect or names(trigger.expect, event)


def opens(trigger: EventTrigger, event: str) -> bool:
    return bool(trigger.after) and names(trigger.after, event)


def concerns(trigger: EventTrigger, event: Wire) -> bool:
    """Whether the event is one that the trigger looks at: its name, its resource and its related resources."""
    return (
        (expects(trigger, event["event"]) or opens(trigger, event["event"]))
        and resource_matches(trigger.match, event["resource"])
        and all(
            not wanted or any(resource_matches(wanted, one) for one in event["related"])
            for wanted in trigger.related_specifications()
        )
    )


def resource_matches(wanted: Mapping[str, str | list[str]], labels: Mapping[str, str]) -> bool:
    return all(label_matches(dict(labels), label, as_list(patterns)) for label, patterns in wanted.items())


def labels_of(trigger: EventTrigger, event: Wire) -> dict[str, str]:
    """The labels that tell the trigger's buckets apart, with their values in the event; a missing one is empty."""
    return {label: label_of(event, label) for label in sorted(trigger.for_each)}


def label_of(event: Wire, label: str) -> str:
    if not label.startswith("related:"):
        return str(event["resource"].get(label, ""))
    _, role, name = [*label.split(":", 2), "", ""][:3]
    found = next((one for one in event["related"] if one.get("prefect.resource.role") == role), None)
    return str(found.get(name, "")) if found else ""


def step(trigger: EventTrigger, bucket: Bucket | None, event: Wire, now: datetime) -> Step:
    """What an event that concerns the trigger does to the bucket of its key."""
    if trigger.posture == Posture.Proactive:
        return Step(proactive_bucket(trigger, bucket, event))
    if trigger.after:
        return reactive_after(trigger, bucket, event)
    if not trigger.within:
        return reactive_at_once(trigger, bucket, event)
    return reactive_within(trigger, bucket, event, now)


def reactive_at_once(trigger: EventTrigger, bucket: Bucket | None, event: Wire) -> Step:
    """Without a window: every so-many-th event fires."""
    occurred = event["occurred"]
    counted = (bucket or Bucket(occurred, occurred)).counted(event)
    if counted.count < trigger.threshold:
        return Step(replace(counted, end=max(counted.end, occurred)))
    return Step(None, fires=True)


def reactive_after(trigger: EventTrigger, bucket: Bucket | None, event: Wire) -> Step:
    """Only after another event opened a window. One that does both does not count for the window it opens."""
    occurred = event["occurred"]
    if bucket and expects(trigger, event["event"]) and bucket.holds(occurred):
        bucket = bucket.counted(event)
        if bucket.count >= trigger.threshold:
            return Step(None, fires=True)
        return Step(bucket)
    if opens(trigger, event["event"]) and (bucket is None or occurred > bucket.end):
        return Step(Bucket(occurred, occurred + trigger.window))
    return Step(bucket)


def reactive_within(trigger: EventTrigger, bucket: Bucket | None, event: Wire, now: datetime) -> Step:
    """So many within a window. After firing the next window begins where this one ends, so that it fires once in each."""
    occurred = event["occurred"]
    if bucket is None:
        bucket = Bucket(occurred - BACKDATED, occurred + trigger.window)
    elif occurred > bucket.end:
        start = max(bucket.end, min(now, occurred))
        bucket = Bucket(start, start + trigger.window)
    if occurred < bucket.start:
        return Step(bucket)
    bucket = bucket.counted(event)
    if bucket.count < trigger.threshold:
        return Step(bucket)
    return Step(Bucket(bucket.end, bucket.end + trigger.window), fires=True)


def proactive_bucket(trigger: EventTrigger, bucket: Bucket | None, event: Wire) -> Bucket | None:
    """Count towards what is expected. What fires is that a window ends unfilled, which `ended` finds."""
    occurred, name = event["occurred"], event["event"]
    if bucket and expects(trigger, name) and bucket.holds(occurred):
        bucket = bucket.counted(event)
    if not trigger.after:
        if bucket is None and trigger.for_each:
            bucket = Bucket(occurred, occurred + trigger.window, 1, event)
        return bucket
    satisfied = bucket is not None and bucket.count >= trigger.threshold
    if opens(trigger, name) and (bucket is None or satisfied):
        return Bucket(occurred, occurred + trigger.window, 0, event)
    return None if satisfied else bucket


def ended(trigger: EventTrigger, bucket: Bucket, now: datetime) -> Step:
    """What becomes of a proactive trigger's bucket as time passes."""
    if bucket.count >= trigger.threshold:
        return Step(None)
    if now < bucket.end:
        return Step(bucket)
    following = None if trigger.after else Bucket(bucket.end, bucket.end + trigger.window)
    return Step(following, fires=True)


def first_bucket(trigger: EventTrigger, now: datetime) -> Bucket | None:
    """The window that a proactive trigger has from the start: one, where nothing opens it and there is one key."""
    if trigger.posture != Posture.Proactive or trigger.after or trigger.for_each:
        return None
    return Bucket(now, now + trigger.window)


def forgotten(trigger: EventTrigger, bucket: Bucket, now: datetime) -> bool:
    """Whether a reactive trigger's unfilled bucket is too old to matter."""
    since = bucket.end if trigger.within else bucket.start
    return trigger.posture == Posture.Reactive and now > since + FORGOTTEN_AFTER


@dataclass(frozen=True)
class ChildFiring:
    """The latest firing of a child of a composite trigger."""

    child: str
    at: datetime


def fresh(trigger: CompoundTrigger | SequenceTrigger, firings: Sequence[ChildFiring]) -> list[ChildFiring]:
    """The firings that are within the trigger's time of the newest one, oldest first."""
    ordered = sorted(firings, key=lambda firing: firing.at)
    if trigger.within is None or not ordered:
        return ordered
    horizon = ordered[-1].at - timedelta(seconds=trigger.within)
    return [firing for firing in ordered if firing.at >= horizon]


def complete(trigger: CompoundTrigger | SequenceTrigger, firings: Sequence[ChildFiring]) -> bool:
    """Whether the fresh firings of its children fire a composite trigger."""
    if isinstance(trigger, SequenceTrigger):
        return [firing.child for firing in firings] == [str(child.id) for child in trigger.triggers]
    return len(firings) >= trigger.required()

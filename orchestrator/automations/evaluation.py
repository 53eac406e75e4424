"""Events → firings → actions to do. One evaluator works at a time, whoever else is up; it keeps its place in the table.

Contract: events_automations.md, sections 4 and 8.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils import timezone
from pydantic import TypeAdapter, ValidationError

from orchestrator.automations import triggers
from orchestrator.automations.context import plain
from orchestrator.automations.models import Automation, Bucket, Evaluated, Firing, PendingAction
from orchestrator.automations.schemas import AnyTrigger, Composite, EventTrigger, Posture, Trigger
from orchestrator.core.databases import is_postgresql
from orchestrator.core.identifiers import time_ordered
from orchestrator.events.feed import wire
from orchestrator.events.models import Event
from orchestrator.events.recording import emit

log = logging.getLogger(__name__)

TRIGGER: TypeAdapter[Any] = TypeAdapter(AnyTrigger)
BATCH = 500
# A position that is missing may still be committed; it is waited for this long.
SETTLED_AFTER = timedelta(seconds=2)
SWEPT_AFTER = timedelta(minutes=2)
NEVER_EVALUATED = "prefect.log.write"

Wire = Mapping[str, Any]
Place = tuple[UUID, UUID, str]


@dataclass
class Armed:
    """An enabled automation with its triggers taken apart."""

    automation: Automation
    root: Trigger
    parents: dict[UUID, Composite] = field(default_factory=dict)

    @property
    def events(self) -> list[EventTrigger]:
        return [trigger for trigger in self.root.walk() if isinstance(trigger, EventTrigger)]

    @classmethod
    def of(cls, automation: Automation) -> Armed | None:
        """None, with a line in the log, for one whose trigger this release cannot read."""
        try:
            armed = cls(automation, TRIGGER.validate_python(automation.trigger))
        except ValidationError as error:
            log.error("Automation %s cannot be evaluated: %s", automation.pk, str(error)[:500])
            return None
        for trigger in armed.root.walk():
            if isinstance(trigger, Composite):
                armed.parents |= {child.id: trigger for child in trigger.triggers}
        return armed


def enabled() -> list[Armed]:
    return [armed for row in Automation.objects.filter(enabled=True).order_by("pk") if (armed := Armed.of(row)) is not None]


def last_position() -> int:
    return Event.objects.aggregate(last=Max("position"))["last"] or 0


def waiting() -> bool:
    """Whether there are events that nobody has evaluated."""
    place = Evaluated.objects.filter(pk=1).values_list("position", flat=True).first()
    return place is None or Event.objects.filter(position__gt=place).exists()


def turn() -> Evaluated | None:
    """The evaluator's place, locked; None while another process has it. A first one begins with what comes from now on."""
    Evaluated.objects.get_or_create(pk=1, defaults={"position": last_position()})
    return Evaluated.objects.select_for_update(skip_locked=True).filter(pk=1).first()


def evaluate() -> int:
    """Evaluate the next events; how many. Joins the caller's transaction."""
    place = turn()
    if place is None:
        return 0
    armed = enabled()
    if not armed:
        place.position = max(place.position, last_position())
        place.save(update_fields=["position"])
        return 0
    rows = settled(place.position, list(Event.objects.filter(position__gt=place.position).order_by("position")[:BATCH]))
    if not rows:
        return 0
    Evaluation(armed).take(rows)
    place.position = rows[-1].position
    place.save(update_fields=["position"])
    return len(rows)


def settled(last: int, rows: list[Event]) -> list[Event]:
    """The rows up to the first that may still have one before it."""
    if not is_postgresql():
        return rows  # one writer at a time: positions are committed in their order
    horizon = timezone.now() - SETTLED_AFTER
    for i, row in enumerate(rows):
        if row.position != last + 1 and row.received > horizon:
            return rows[:i]
        last = row.position
    return rows


def look_at_time() -> None:
    """Fire what was expected and did not come, and sweep what is forgotten. Joins the caller's transaction."""
    if turn() is None:
        return
    now = timezone.now()
    armed = [one for one in enabled() if any(t.posture == Posture.Proactive for t in one.events)]
    if armed:
        Evaluation(armed).look_at_time(now)
    reactive = [str(t.id) for one in armed for t in one.events if t.posture == Posture.Proactive]
    Bucket.objects.filter(end__lt=now - SWEPT_AFTER).exclude(trigger_id__in=reactive).delete()


class Evaluation:
    """One batch: buckets are read when they are needed and written once."""

    def __init__(self, armed: list[Armed]) -> None:
        self.armed = armed
        self.buckets: dict[Place, triggers.Bucket | None] = {}
        self.changed: set[Place] = set()

    def take(self, rows: Iterable[Event]) -> None:
        now = timezone.now()
        for row in rows:
            if row.event == NEVER_EVALUATED:
                continue
            event = wire(row)
            for armed in self.armed:
                if row.received < armed.automation.updated:
                    continue  # from before the automation was what it is
                for trigger in armed.events:
                    if triggers.concerns(trigger, event):
                        self.step(armed, trigger, event, now)
        self.write()

    def step(self, armed: Armed, trigger: EventTrigger, event: Wire, now: datetime) -> None:
        labels = triggers.labels_of(trigger, event)
        place = (armed.automation.pk, trigger.id, json.dumps(labels))
        bucket = self.bucket(place)
        if bucket and triggers.forgotten(trigger, bucket, now):
            bucket = None
        step = triggers.step(trigger, bucket, event, now)
        self.keep(place, step.bucket)
        if step.fires:
            self.fire(armed, trigger, labels, event, now)

    def look_at_time(self, now: datetime) -> None:
        for armed in self.armed:
            for trigger in armed.events:
                if trigger.posture == Posture.Proactive:
                    self.look_at_trigger(armed, trigger, now)
        self.write()

    def look_at_trigger(self, armed: Armed, trigger: EventTrigger, now: datetime) -> None:
        rows = list(Bucket.objects.filter(automation=armed.automation, trigger_id=trigger.id))
        if not rows and (first := triggers.first_bucket(trigger, now)):
            self.keep((armed.automation.pk, trigger.id, "{}"), first)
        for row in rows:
            place = (armed.automation.pk, trigger.id, row.labels)
            bucket = triggers.Bucket(row.start, row.end, row.count, row.last_event)
            step = triggers.ended(trigger, bucket, now)
            if step.bucket != bucket:
                self.keep(place, step.bucket)
            if step.fires:
                self.fire(armed, trigger, json.loads(row.labels), bucket.last_event, now)

    def bucket(self, place: Place) -> triggers.Bucket | None:
        if place not in self.buckets:
            automation, trigger, labels = place
            row = Bucket.objects.filter(automation=automation, trigger_id=trigger, labels=labels).first()
            self.buckets[place] = triggers.Bucket(row.start, row.end, row.count, row.last_event) if row else None
        return self.buckets[place]

    def keep(self, place: Place, bucket: triggers.Bucket | None) -> None:
        self.buckets[place] = bucket
        self.changed.add(place)

    def write(self) -> None:
        kept = []
        for automation, trigger, labels in sorted(self.changed, key=str):
            bucket = self.buckets[automation, trigger, labels]
            if bucket is None:
                Bucket.objects.filter(automation=automation, trigger_id=trigger, labels=labels).delete()
                continue
            kept.append(
                Bucket(
                    automation_id=automation,
                    trigger_id=trigger,
                    labels=labels,
                    start=bucket.start,
                    end=bucket.end,
                    count=bucket.count,
                    last_event=plain(bucket.last_event),
                )
            )
        Bucket.objects.bulk_create(
            kept,
            update_conflicts=True,
            unique_fields=["automation", "trigger_id", "labels"],
            update_fields=["start", "end", "count", "last_event"],
        )

    def fire(self, armed: Armed, trigger: Trigger, labels: dict[str, str], event: Any, now: datetime) -> None:
        """A trigger fires: the automation, if it is the outermost, else perhaps the composite that it is part of."""
        parent = armed.parents.get(trigger.id)
        if parent is None:
            trigger_automation(armed.automation, trigger, labels, event, now)
            return
        at = event["occurred"] if event else now
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        Firing.objects.update_or_create(
            automation=armed.automation,
            parent_id=parent.id,
            child_id=trigger.id,
            defaults={"at": moment, "event": plain(event)},
        )
        rows = list(Firing.objects.filter(automation=armed.automation, parent_id=parent.id))
        fresh = triggers.fresh(parent, [triggers.ChildFiring(str(row.child_id), row.at) for row in rows])  # type: ignore[arg-type]
        stale = {str(row.child_id) for row in rows} - {firing.child for firing in fresh}
        Firing.objects.filter(automation=armed.automation, parent_id=parent.id, child_id__in=stale).delete()
        if triggers.complete(parent, fresh):  # type: ignore[arg-type]
            Firing.objects.filter(automation=armed.automation, parent_id=parent.id).delete()
            self.fire(armed, parent, {}, event, now)


def trigger_automation(automation: Automation, trigger: Any, labels: dict[str, str], event: Any, now: datetime) -> None:
    """Tell that the automation fired, and put its actions in line."""
    event = plain(event)
    told_by = time_ordered()
    resource = resource_of(automation)
    posture = getattr(trigger, "posture", None)
    if posture:
        resource["prefect.posture"] = str(posture)
    related = [event_resource(event["id"], "triggering-event")] if event else []
    emit(
        id=told_by,
        event="prefect.automation.triggered",
        occurred=now,
        resource=resource,
        related=related,
        payload={"triggering_labels": labels, "triggering_event": event},
    )
    payload = {"triggering_labels": labels, "triggering_event": event}
    own: dict[str, Any] = {
        "id": str(told_by),
        "event": "prefect.automation.triggered",
        "occurred": now.isoformat(),
        "resource": resource,
        "related": related,
        "payload": payload,
        "follows": None,
    }
    firing = {
        "labels": labels,
        "event": event,
        "trigger_type": trigger.type,
        "posture": str(posture) if posture else None,
        "told_by": str(told_by),
        "at": now.isoformat(),
    }
    actions = [(action, firing) for action in automation.actions]
    actions += [(action, firing | {"event": own}) for action in automation.actions_on_trigger]
    PendingAction.objects.bulk_create(
        PendingAction(automation=automation, place=place, action=action, firing=of) for place, (action, of) in enumerate(actions)
    )


def resource_of(automation: Automation) -> dict[str, str]:
    return {"prefect.resource.id": f"prefect.automation.{automation.pk}", "prefect.resource.name": automation.name}


def event_resource(key: str, role: str) -> dict[str, str]:
    return {"prefect.resource.id": f"prefect.event.{key}", "prefect.resource.role": role}

"""What templates of automations may speak of (contract: events_automations.md, section 9).

Everything is plain values or one of the two small classes here: a template reaches no model and no method of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from deployments.projections import DEPLOYMENT
from flowruns.projections import FLOW, FLOW_RUN, TASK_RUN
from orchestrator.automations.models import Automation
from orchestrator.blocks.models import Variable
from orchestrator.concurrency.models import ConcurrencyLimit
from orchestrator.core import json_body
from orchestrator.core.projection import Projection
from workqueues.projections import WORK_POOL, WORK_QUEUE

ID = "prefect.resource.id"
NAME = "prefect.resource.name"
ROLE = "prefect.resource.role"

LIMIT = Projection(ConcurrencyLimit, {name: name for name in ("id", "created", "updated", "name", "limit", "active_slots")})
# Objects that an event may tell of, by the name that templates know them under, and the kind of their resource.
OBJECTS: dict[str, tuple[str, Projection]] = {
    "flow": ("flow", FLOW),
    "flow_run": ("flow-run", FLOW_RUN),
    "task_run": ("task-run", TASK_RUN),
    "deployment": ("deployment", DEPLOYMENT),
    "work_pool": ("work-pool", WORK_POOL),
    "work_queue": ("work-queue", WORK_QUEUE),
    "concurrency_limit": ("concurrency-limit", LIMIT),
}


class Dotted(dict[str, Any]):
    """Labels reached by their parts: `labels.a.b` is the label `a.b`."""

    def __init__(self, labels: Mapping[str, str], prefix: str = "") -> None:
        super().__init__(labels)
        self._prefix = prefix

    def __getitem__(self, name: str) -> Any:
        path = self._prefix + name
        if path in self.keys():
            return super().__getitem__(path)
        if any(label.startswith(path + ".") for label in self.keys()):
            return Dotted(dict(self.items()), path + ".")
        raise KeyError(name)


class Labelled(dict[str, Any]):
    """A resource: its labels as items, and its id, name and role by name."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__(labels)
        self.id = labels.get(ID, "")
        self.name = labels.get(NAME)
        self.role = labels.get(ROLE)
        self.labels = Dotted(labels)


def told(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An event as templates see it."""
    if event is None:
        return None
    related = [Labelled(labels) for labels in event["related"]]
    first: dict[str, Labelled] = {}
    every: dict[str, list[Labelled]] = {}
    for one in related:
        role = str(one.role)
        first.setdefault(role, one)
        every.setdefault(role, []).append(one)
    return {
        **event,
        "resource": Labelled(event["resource"]),
        "related": related,
        "resource_in_role": first,
        "resources_in_role": every,
    }


def identified(event: Mapping[str, Any] | None, kind: str) -> UUID | None:
    """The id of the first resource of a kind that the event tells of."""
    if event is None:
        return None
    for labels in (event["resource"], *event["related"]):
        prefix, _, key = labels.get(ID, "").rpartition(".")
        if prefix == f"prefect.{kind}":
            try:
                return UUID(key)
            except ValueError:
                continue
    return None


def context_of(automation: Automation, firing: Mapping[str, Any], text: str) -> dict[str, Any]:
    """What the templates in `text` may speak of; objects are read only where they are named."""
    event = firing["event"]
    made: dict[str, Any] = {
        "automation": plain(
            {"id": automation.pk, "name": automation.name, "description": automation.description, "tags": automation.tags}
        ),
        "event": told(event),
        "labels": Dotted(firing["labels"]),
        "firing": {"triggering_labels": firing["labels"], "triggering_event": told(event), "triggered": firing["at"]},
        "firings": [],
        "events": [told(event)] if event else [],
    }
    if "variables" in text:
        made["variables"] = dict(Variable.objects.values_list("name", "value"))
    for name, (kind, projection) in OBJECTS.items():
        if name in text:
            made[name] = found(event, kind, projection)
    return made


def found(event: Mapping[str, Any] | None, kind: str, projection: Projection) -> Any:
    row = projection.one(identified(event, kind))
    if row is None or event is None:
        return None
    shown = plain(row)
    labels = event["resource"]
    if kind in {"flow-run", "task-run"} and labels.get(ID) == f"prefect.{kind}.{shown['id']}" and "prefect.state-name" in labels:
        # The state that the event tells of, not the one of this moment.
        shown["state"] = {
            "type": labels.get("prefect.state-type"),
            "name": labels["prefect.state-name"],
            "message": labels.get("prefect.state-message"),
            "timestamp": labels.get("prefect.state-timestamp"),
        }
    return shown


def plain(value: Any) -> Any:
    """Values as JSON has them."""
    return orjson.loads(json_body.dump(value))

"""Background loops of automations: evaluate events, look at time, do what is to be done. Several copies fire once."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from orchestrator.automations import actions, evaluation
from orchestrator.automations.actions import ActionFailed, Doing, Done
from orchestrator.automations.evaluation import event_resource, resource_of
from orchestrator.automations.models import PendingAction
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.identifiers import time_ordered
from orchestrator.core.loops import Loop
from orchestrator.events.recording import emit

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
# How long another process leaves an action alone that somebody began: longer than a call to the outside may take.
CLAIM = timedelta(minutes=2)


class Triggers(Loop):
    """Turns events, and their absence, into actions to do."""

    name = "triggers"
    interval_seconds = 1.0

    def __init__(self) -> None:
        self.looked = 0.0

    def poll(self) -> float:
        evaluated = in_one_transaction(evaluation.evaluate) if evaluation.waiting() else 0
        if time.monotonic() - self.looked >= settings.PROACTIVE_GRANULARITY.total_seconds():
            self.looked = time.monotonic()
            in_one_transaction(evaluation.look_at_time)
        return 0 if evaluated == evaluation.BATCH else self.interval_seconds


class Actions(Loop):
    """Does what automations ask for, in the order in which they fired."""

    name = "actions"
    interval_seconds = 1.0

    def poll(self) -> float:
        while (row := next_action()) is not None:
            attempt(row.pk)
        return self.interval_seconds


def due() -> Any:
    return PendingAction.objects.filter(due__lte=timezone.now()).order_by("due", "place")


def next_action() -> PendingAction | None:
    """The next action that nobody else has begun, claimed for a while; None when there is none."""

    def claimed() -> PendingAction | None:
        row: PendingAction | None = due().select_for_update(skip_locked=True).first()
        if row is not None:
            row.due, row.attempts = timezone.now() + CLAIM, row.attempts + 1
            row.save(update_fields=["due", "attempts"])
        return row

    return in_one_transaction(claimed) if due().exists() else None


def attempt(key: UUID) -> None:
    """Do a claimed action. One that fails for a reason of ours is tried again, and told of as failed at last."""
    row = PendingAction.objects.select_related("automation").get(pk=key)
    try:
        of = actions.doing(row)
        if isinstance(of.action, actions.OUTSIDE):
            finish_outside(of)
        else:
            in_one_transaction(lambda: finish(of, actions.perform(of)))
    except ActionFailed as error:
        in_one_transaction(lambda error=error: fail(row, str(error), error.details))  # type: ignore[misc]
    except Exception as error:
        log.exception("Action %s of automation %s failed", row.place, row.automation_id)
        if row.attempts >= MAX_ATTEMPTS:
            in_one_transaction(lambda error=error: fail(row, type(error).__name__, {}))  # type: ignore[misc]


def finish_outside(of: Doing) -> None:
    done = actions.perform(of)
    in_one_transaction(lambda: finish(of, done))


def finish(of: Doing, done: Done) -> None:
    row = PendingAction.objects.select_related("automation").filter(pk=of.invocation).first()
    if row is not None:  # else somebody else was quicker: what is done is done, and told once
        tell(row, "executed", done.details, done.related)


def fail(row: PendingAction, reason: str, details: dict[str, Any]) -> None:
    tell(row, "failed", {**details, "reason": reason}, [])


def tell(row: PendingAction, what: str, details: dict[str, Any], related: list[dict[str, str]]) -> None:
    """Tell that the action was begun and how it ended, and take it off the line."""
    firing = row.firing
    resource = resource_of(row.automation) | {"prefect.trigger-type": firing["trigger_type"]}
    if firing["posture"]:
        resource["prefect.posture"] = firing["posture"]
    payload = {"action_index": row.place, "action_type": row.action["type"], "invocation": str(row.pk)}
    events = [event_resource(firing["told_by"], "automation-triggered-event")]
    if firing["event"]:
        events.append(event_resource(firing["event"]["id"], "triggering-event"))
    begun = time_ordered()
    now = timezone.now()
    emit(
        id=begun,
        event="prefect.automation.action.triggered",
        occurred=now,
        resource=resource,
        related=events,
        payload=payload,
    )
    emit(
        id=time_ordered(),
        event=f"prefect.automation.action.{what}",
        occurred=now + timedelta(microseconds=1),
        resource=resource,
        related=[*related, *events],
        payload=payload | details,
        follows=begun,
    )
    PendingAction.objects.filter(pk=row.pk).delete()

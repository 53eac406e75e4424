"""The check of the invariants says nothing of sound tables and names what is broken."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from flowruns.models import FlowRun
from orchestrator.concurrency.models import ConcurrencyLimit, Lease
from orchestrator.console.invariants import INVARIANTS
from orchestrator.events.models import Event
from tests.api import post
from tests.factories import deployment, flow

pytestmark = pytest.mark.django_db


def fsck() -> tuple[bool, str]:
    out = StringIO()
    try:
        call_command("fsck", stdout=out)
    except CommandError:
        return False, out.getvalue()
    return True, out.getvalue()


@pytest.fixture
def run() -> FlowRun:
    """A run with a life behind it, made through the API."""
    limit = ConcurrencyLimit.objects.create(name="deployment:x", limit=3)
    owner = deployment("nightly", concurrency_limit=limit)
    key = post(f"/deployments/{owner.pk}/create_flow_run")[1]["id"]
    for type_ in ("PENDING", "RUNNING"):
        assert post(f"/flow_runs/{key}/set_state", {"state": {"type": type_}})[0] == 201
    post("/flow_runs/", {"flow_id": str(flow().pk)})
    return FlowRun.objects.get(pk=key)


def test_sound_tables_are_sound(run: FlowRun) -> None:
    sound, said = fsck()
    assert sound, said
    assert said.count("ok  ") == len(INVARIANTS)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"state_type": "FAILED"}, "A flow run's columns are those of its current state."),
        ({"state": None}, "A flow run's columns are those of its current state."),
        ({"end_time": timezone.now()}, "A flow run has ended exactly when it has an end."),
        ({"next_scheduled_start_time": timezone.now()}, "A flow run waits for a time exactly when it is scheduled."),
    ],
)
def test_a_broken_run_is_named(run: FlowRun, changes: dict[str, Any], sentence: str) -> None:
    FlowRun.objects.filter(pk=run.pk).update(**changes)
    sound, said = fsck()
    assert not sound
    assert f"FAULT  {sentence}" in said
    assert str(run.pk) in said


def test_leaked_slots_and_lost_events_are_named(run: FlowRun) -> None:
    ConcurrencyLimit.objects.update(active_slots=0)
    Event.objects.all()[:1].get().delete()
    FlowRun.objects.filter(pk=run.pk).delete()
    Lease.objects.update(updated=timezone.now() - timedelta(minutes=1))
    said = fsck()[1]
    assert "FAULT  A limit counts at least the slots that leases hold.  (1 rows)" in said
    assert "FAULT  A slot of a deployment is held by a run that is on its way.  (1 rows)" in said

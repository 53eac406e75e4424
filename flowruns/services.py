"""Background loops over runs."""

from __future__ import annotations

import logging
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from flowruns.models import FlowRun
from flowruns.orchestration import engine, policies
from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType
from orchestrator.core.errors import Missing
from orchestrator.core.loops import Loop

BATCH = 400

log = logging.getLogger(__name__)


class LateRuns(Loop):
    """Marks runs Late that should have started (contract: runs_states_orchestration.md, section 6.1)."""

    name = "late-runs"
    interval_seconds = settings.LATE_RUNS_LOOP.total_seconds()

    def poll(self) -> float:
        late = FlowRun.objects.scheduled().filter(
            state_name="Scheduled", next_scheduled_start_time__lte=timezone.now() - settings.LATE_AFTER
        )
        columns = ("pk", "state__details")
        found = list(late.order_by("next_scheduled_start_time").values_list(*columns)[:BATCH])
        marked = sum(self.mark(key, (details or {}).get("scheduled_time")) for key, details in found)
        return 0 if marked == BATCH else self.interval_seconds

    def mark(self, key: UUID, scheduled_time: str | None) -> bool:
        """Mark one run; whether that was done. A run that cannot be marked is logged and does not stop the others."""
        state = ProposedState(StateType.SCHEDULED, "Late", details={"scheduled_time": scheduled_time})
        try:
            return engine.propose(key, state, policy=policies.LATE_MARKING).written
        except Missing:
            log.debug("Run %s was deleted before it could be marked late", key)
        except DatabaseError:
            log.exception("Run %s could not be marked late", key)
        return False

"""Which deployments somebody polls for (contract: flows_deployments.md, section 8)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import OperationalError
from django.db.models import QuerySet

from deployments.models import Deployment
from deployments.models.deployments import Readiness
from orchestrator.core.databases import in_one_transaction

log = logging.getLogger(__name__)

# A runner polls every few seconds and a deployment counts as polled for a minute: writing each poll would tell nothing.
COALESCED = timedelta(seconds=5)


def unmarked(rows: QuerySet[Deployment], now: datetime) -> QuerySet[Deployment]:
    """Those of `rows` that are not READY or whose last marked poll is more than `COALESCED` before `now`."""
    return rows.exclude(status=Readiness.READY, last_polled__gt=now - COALESCED)


def mark_ready(keys: Sequence[UUID], now: datetime) -> int:
    """Mark the deployments READY, polled at `now`; how many rows were written. `updated` stays.

    Costs one read when all were marked a moment ago. A row that somebody is changing is left to the next poll, and a
    database that cannot write now never fails the poll itself.
    """
    stale = unmarked(Deployment.objects.filter(pk__among=keys), now)
    try:
        if not stale.exists():
            return 0
        return in_one_transaction(lambda: _mark(stale, now))
    except OperationalError as error:
        log.warning("Could not mark polled deployments ready: %s", error)
        return 0


def _mark(stale: QuerySet[Deployment], now: datetime) -> int:
    free = list(stale.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True))
    return Deployment.objects.filter(pk__in=free).update(status=Readiness.READY, last_polled=now)

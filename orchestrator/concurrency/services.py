"""Background loops over leases."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from orchestrator.concurrency import slots
from orchestrator.concurrency.models import Lease
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.loops import Loop

BATCH = 100


class Repossessor(Loop):
    """Frees what expired leases hold (contract: concurrency_limits.md, section 3). A lease renewed meanwhile stays."""

    name = "repossessor"

    def __init__(self) -> None:
        self.interval_seconds = settings.REPOSSESSOR_LOOP.total_seconds()

    def poll(self) -> float:
        now = timezone.now()
        expired = Lease.objects.filter(expires_at__lt=now).order_by("expires_at")
        keys = list(expired.values_list("pk", flat=True)[:BATCH])
        for key in keys:
            in_one_transaction(lambda key=key: slots.give_back(key, if_expired_at=now))  # type: ignore[misc]
        return 0 if len(keys) == BATCH else self.interval_seconds

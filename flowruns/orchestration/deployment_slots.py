"""The slot of a deployment's limit that a run holds from PENDING to its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.utils import timezone

from flowruns.models import FlowRun
from orchestrator.concurrency import slots
from orchestrator.concurrency.models import ConcurrencyLimit

LEASE = "deployment_concurrency_lease_id"


@dataclass(frozen=True)
class DeploymentLimit:
    """A deployment's limit as its runs meet it. `grace` is how long a slot is held before its lease must be renewed."""

    limit_id: UUID
    limit: int
    cancels_new: bool
    grace: timedelta

    def full(self) -> bool:
        limit = ConcurrencyLimit.objects.filter(pk=self.limit_id, active=True).first()
        return limit is not None and slots.in_use(limit, timezone.now()) >= limit.limit

    def take(self, run: FlowRun) -> UUID | None:
        """The id of the lease of one slot; None when none is free."""
        lease = slots.take([self.limit_id], lease=self.grace, holder_type="flow_run", holder_id=run.pk)
        return lease.pk if lease else None


class DeploymentGone(Exception):
    """The run names a deployment that no longer exists."""


def limit_of(run: FlowRun) -> DeploymentLimit | None:
    """The limit of the run's deployment, None where there is none. Raises DeploymentGone."""
    if run.deployment_id is None:
        return None
    columns = ("concurrency_limit_id", "concurrency_limit__limit", "concurrency_options")
    deployments = apps.get_model("deployments.Deployment")._default_manager
    found = deployments.filter(pk=run.deployment_id).values_list(*columns).first()
    if found is None:
        raise DeploymentGone
    limit_id, limit, options = found
    if limit_id is None:
        return None
    chosen: dict[str, Any] = options or {}
    seconds = chosen.get("grace_period_seconds")
    grace = timedelta(seconds=seconds) if seconds else settings.DEPLOYMENT_LEASE
    return DeploymentLimit(limit_id, limit, chosen.get("collision_strategy") == "CANCEL_NEW", grace)


def give_back(run: FlowRun, lease_id: str | None) -> None:
    """Free the slot that the run held: by its lease, or without one by one off its deployment's limit.

    A lease that is gone holds nothing: whoever ended it freed the slot, and freeing it again would let in one run too many.
    """
    if lease_id:
        slots.give_back(UUID(lease_id))
        return
    try:
        limit = limit_of(run)
    except DeploymentGone:
        return
    if limit:
        slots.release(slots.locked([limit.limit_id]))

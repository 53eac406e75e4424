"""The slot of a deployment's limit that a run holds from PENDING to its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.apps import apps
from django.conf import settings

from flowruns.models import FlowRun
from orchestrator.concurrency import slots
from orchestrator.concurrency.models import ConcurrencyLimit


@dataclass(frozen=True)
class DeploymentLimit:
    """A deployment's limit as a run meets it; `limit_id` is None where the deployment has none."""

    limit_id: UUID | None
    limit: int | None
    cancels_new: bool
    grace: timedelta

    def full(self) -> bool:
        if self.limit_id is None:
            return False
        limit = ConcurrencyLimit.objects.filter(pk=self.limit_id, active=True).first()
        return limit is not None and limit.active_slots >= limit.limit

    def take(self, run: FlowRun) -> UUID | None:
        """The id of the lease of one slot; None when none is free."""
        assert self.limit_id is not None
        lease = slots.take([self.limit_id], lease=self.grace, holder_type="flow_run", holder_id=run.pk)
        return lease.pk if lease else None


def limit_of(run: FlowRun) -> DeploymentLimit | None:
    """The limit of the run's deployment; None when the deployment is gone."""
    if run.deployment_id is None:
        return None
    columns = ("concurrency_limit_id", "concurrency_limit__limit", "concurrency_options")
    deployments = apps.get_model("deployments.Deployment")._default_manager
    found = deployments.filter(pk=run.deployment_id).values_list(*columns).first()
    if found is None:
        return None
    limit_id, limit, options = found
    options = options or {}
    seconds = options.get("grace_period_seconds")
    grace = timedelta(seconds=seconds) if seconds else settings.DEPLOYMENT_LEASE
    return DeploymentLimit(limit_id, limit, options.get("collision_strategy") == "CANCEL_NEW", grace)


def give_back(run: FlowRun, lease_id: str | None) -> None:
    """Free the slot that the run held: by its lease, else by one off its deployment's limit."""
    if lease_id and slots.give_back(UUID(lease_id)):
        return
    limit = limit_of(run)
    if limit and limit.limit_id:
        slots.release(slots.locked([limit.limit_id]))

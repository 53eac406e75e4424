"""Schedules of deployments: rows that hold a timetable."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from deployments.models.deployments import Deployment
from orchestrator.core.rows import Row


class DeploymentSchedule(Row):
    """A timetable of a deployment. Source: flows_deployments.md, section 6; schedules_scheduler.md, section 1."""

    deployment = models.ForeignKey(Deployment, models.CASCADE, related_name="schedules", db_index=False)
    schedule = models.JSONField()
    active = models.BooleanField(default=True)
    max_scheduled_runs = models.IntegerField(null=True, blank=True)
    parameters = models.JSONField(default=dict, blank=True)
    slug = models.TextField(null=True, blank=True)
    # Digest of deployment and slug, else of deployment, schedule and parameters: the same after a redeploy.
    identity = models.UUIDField(editable=False)
    # The watermark: when this schedule needs more runs planned. Null when it never does (exhausted, quarantined).
    refill_at = models.DateTimeField(null=True, default=timezone.now, editable=False)
    # Why the scheduler has put this schedule aside; empty while all is well.
    error = models.TextField(default="", blank=True, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["deployment", "slug"], name="one_schedule_per_slug")]
        indexes = [
            models.Index(fields=["deployment", "-updated"], name="schedules_of_deployment"),
            # Reader: every scheduler pass; it costs what is due, not what exists.
            models.Index(fields=["refill_at"], name="schedule_due", condition=Q(active=True, refill_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.slug or "schedule"

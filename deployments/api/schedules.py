"""`/deployments/{id}/schedules`. Contract: flows_deployments.md, section 6."""

from __future__ import annotations

from uuid import UUID

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from rest_framework.request import Request

from deployments.api.bodies import many_of
from deployments.models import Deployment, DeploymentSchedule
from deployments.projections import SCHEDULE
from deployments.registration import delete_schedule, forget_planned_runs, locked
from deployments.schedule_rows import add_schedules, change_schedule
from deployments.schemas import NewSchedules, ScheduleCreate, ScheduleUpdate
from orchestrator.core.databases import is_postgresql
from orchestrator.core.errors import INTEGRITY, Conflict, NotFound
from orchestrator.core.viewsets import RowViewSet, documented, writes

NO_DEPLOYMENT = "Deployment not found."
NO_SCHEDULE = "Schedule not found."
SLUG_TAKEN = "Schedule slugs must be unique within a deployment."


class ScheduleViewSet(RowViewSet):
    projection = SCHEDULE
    missing = NO_SCHEDULE

    def of_deployment(self, request: Request, pk: UUID) -> HttpResponse:
        schedules = SCHEDULE.of_deployments([str(pk)])[str(pk)]
        if not schedules and not Deployment.objects.filter(pk=pk).exists():
            raise NotFound(NO_DEPLOYMENT)
        return self.answer(schedules)

    @documented(body=list[ScheduleCreate], status=201, summary="Add schedules")
    @writes
    def create(self, request: Request, pk: UUID) -> HttpResponse:
        items = many_of(NewSchedules, self.raw_body())
        locked(pk, missing=NO_DEPLOYMENT)
        try:
            with transaction.atomic():
                keys = [row.pk for row in add_schedules(pk, items, keep_cap=True)]
        except IntegrityError:
            raise Conflict(SLUG_TAKEN if is_postgresql() else INTEGRITY) from None
        made = {str(row["id"]): row for row in SCHEDULE.many(DeploymentSchedule.objects.filter(pk__in=keys))}
        return self.answer([made[str(key)] for key in keys], 201)

    @documented(body=ScheduleUpdate, status=204, summary="Change what the body names; absent parameters become empty")
    @writes
    def partial_update(self, request: Request, pk: UUID, key: UUID) -> HttpResponse:
        body = self.body(ScheduleUpdate)
        deployment = locked(pk, missing=NO_DEPLOYMENT)
        row = DeploymentSchedule.objects.filter(pk=key, deployment_id=pk).first()
        if row is None:
            raise NotFound(NO_SCHEDULE)
        change_schedule(row, body)
        forget_planned_runs(deployment)
        return self.nothing()

    @writes
    def destroy(self, request: Request, pk: UUID, key: UUID) -> HttpResponse:
        deployment = locked(pk, missing=NO_DEPLOYMENT)
        if not delete_schedule(pk, key):
            raise NotFound(NO_SCHEDULE)
        forget_planned_runs(deployment, past_due=True)
        return self.nothing()

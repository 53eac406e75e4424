"""`/v2/concurrency_limits`: global limits, made and changed. Contract: concurrency_limits.md, section 2."""

from __future__ import annotations

from math import floor
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from orchestrator.concurrency.models import ConcurrencyLimit
from orchestrator.concurrency.schemas import LimitCreate, LimitPage, LimitUpdate
from orchestrator.core.errors import INTEGRITY, Conflict, NotFound
from orchestrator.core.projection import Projection, WireRow, moment_of
from orchestrator.core.routes import route
from orchestrator.core.viewsets import RowViewSet, bounded_limit, documented, writes

SHOWN = ("id", "created", "updated", "active", "name", "limit", "active_slots", "slot_decay_per_second")


def decayed(row: WireRow, now: object) -> None:
    """Slots in use after decay, as the wire reports them."""
    if rate := row["slot_decay_per_second"]:
        since = moment_of(row["updated"])
        assert since is not None
        lost = floor(rate * (timezone.now() - since).total_seconds())
        row["active_slots"] = max(0, row["active_slots"] - lost)


LIMIT = Projection(ConcurrencyLimit, {name: name for name in SHOWN}, decayed)
CREATED_LIMIT = Projection(ConcurrencyLimit, {name: name for name in (*SHOWN, "denied_slots", "avg_slot_occupancy_seconds")})


class LimitViewSet(RowViewSet):
    projection = LIMIT
    missing = "Concurrency Limit not found"

    def key_of(self, id_or_name: str) -> UUID:
        """The key of the limit with this id, else of this name."""
        try:
            chosen = ConcurrencyLimit.objects.filter(pk=UUID(id_or_name))
        except ValueError:
            chosen = ConcurrencyLimit.objects.filter(name=id_or_name)
        if (key := chosen.values_list("pk", flat=True).first()) is None:
            raise NotFound(self.missing)
        return key

    @documented(body=LimitCreate, status=201)
    @writes
    def create(self, request: Request) -> HttpResponse:
        limit = ConcurrencyLimit(**self.body(LimitCreate).model_dump())
        limit.save(force_insert=True)
        return self.answer(CREATED_LIMIT.one(limit.pk), 201)

    def retrieve_named(self, request: Request, id_or_name: str) -> HttpResponse:
        return self.answer(self.row(self.key_of(id_or_name)))

    @documented(body=LimitPage)
    def filter(self, request: Request) -> HttpResponse:
        body = self.body(LimitPage)
        limit = bounded_limit(body.limit)
        return self.answer(self.rows(ConcurrencyLimit.objects.order_by("name")[body.offset : body.offset + limit]))

    @documented(body=LimitUpdate, status=204)
    @writes
    def partial_update(self, request: Request, id_or_name: str) -> HttpResponse:
        changes = self.body(LimitUpdate).given()
        limit = ConcurrencyLimit.objects.select_for_update().get(pk=self.key_of(id_or_name))
        if None in changes.values():
            raise Conflict(INTEGRITY)
        for name, value in changes.items():
            setattr(limit, name, value)
        if changes:
            limit.save(update_fields=[*changes])
        return self.nothing()

    @writes
    def destroy(self, request: Request, id_or_name: str) -> HttpResponse:
        ConcurrencyLimit.objects.filter(pk=self.key_of(id_or_name)).delete()
        return self.nothing()


urlpatterns = [
    route("", LimitViewSet, post="create"),
    route("filter", LimitViewSet, post="filter"),
    route("<str:id_or_name>", LimitViewSet, get="retrieve_named", patch="partial_update", delete="destroy"),
]

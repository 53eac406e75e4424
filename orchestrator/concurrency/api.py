"""`/v2/concurrency_limits`: global limits, and the same by tag. Contract: concurrency_limits.md, sections 2 to 4."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from orchestrator.concurrency import slots, tags
from orchestrator.concurrency.models import TAG_PREFIX, ConcurrencyLimit, Lease
from orchestrator.concurrency.occupancy import decayed
from orchestrator.concurrency.schemas import (
    LeaseRenewed,
    LeaseReturned,
    LeaseWanted,
    LimitCreate,
    LimitPage,
    LimitUpdate,
    Mode,
    SlotsReturned,
    SlotsWanted,
    TagLimitCreate,
    TagReset,
    TagSlots,
)
from orchestrator.core.databases import in_one_transaction
from orchestrator.core.errors import INTEGRITY, Conflict, Gone, Locked, NotFound, Unprocessable, reply
from orchestrator.core.projection import Projection, WireRow, moment_of
from orchestrator.core.routes import route
from orchestrator.core.viewsets import RowViewSet, bounded_limit, documented, writes

SHOWN = ("id", "created", "updated", "active", "name", "limit", "active_slots", "slot_decay_per_second")


LEASE_GONE = "Lease not found - it may have expired or been revoked"


def with_decay(row: WireRow, now: object) -> None:
    """Slots in use after decay, as the wire reports them."""
    if rate := row["slot_decay_per_second"]:
        since = moment_of(row["updated"])
        assert since is not None
        row["active_slots"] = decayed(row["active_slots"], rate, (timezone.now() - since).total_seconds())


LIMIT = Projection(ConcurrencyLimit, {name: name for name in SHOWN}, with_decay)
CREATED_LIMIT = Projection(ConcurrencyLimit, {name: name for name in (*SHOWN, "denied_slots", "avg_slot_occupancy_seconds")})


class LimitViewSet(RowViewSet):
    reads = frozenset({"filter"})
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

    @documented(body=LimitCreate, answer=CREATED_LIMIT, status=201)
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
        delete_limit(self.key_of(id_or_name))
        return self.nothing()

    @documented(body=SlotsWanted, summary="Take slots of all limits named, or of none")
    @writes
    def increment(self, request: Request) -> HttpResponse:
        body = self.body(SlotsWanted)
        limits = self.wanted(body)
        return self.answer(shown(limits)) if slots.occupy(limits, body.slots) else refused(limits, body.slots)

    @documented(body=LeaseWanted, summary="Take slots until a lease ends")
    @writes
    def increment_with_lease(self, request: Request) -> HttpResponse:
        body = self.body(LeaseWanted)
        limits = self.wanted(body)
        if not slots.occupy(limits, body.slots):
            return refused(limits, body.slots)
        holder = (body.holder.type.value, body.holder.id) if body.holder else ()
        lease = slots.hold(limits, body.slots, timedelta(seconds=body.lease_duration), *holder)
        return self.answer({"lease_id": lease.pk, "limits": shown(limits)})

    def wanted(self, body: SlotsWanted | LeaseWanted) -> list[ConcurrencyLimit]:
        """The limits named, locked. Raises Unprocessable where waiting would not help."""
        limits = slots.named(body.names)
        active = [limit for limit in limits if limit.active]
        if any(limit.limit < body.slots for limit in active):
            raise Unprocessable("Slots requested is greater than the limit")
        if body.mode == Mode.rate_limit and (flat := [limit.name for limit in active if not limit.slot_decay_per_second]):
            raise Unprocessable(
                f"Only concurrency limits with slot decay can be used for rate limiting. The following limits do not have "
                f"a decay configured: '{','.join(flat)}'"
            )
        return limits

    @documented(body=SlotsReturned, summary="Give slots back")
    @writes
    def decrement(self, request: Request) -> HttpResponse:
        body = self.body(SlotsReturned)
        limits = slots.named(body.names)
        slots.release(limits, body.slots, body.occupancy_seconds)
        return self.answer(shown(limits))

    @documented(body=LeaseReturned, status=204, summary="Give back what a lease holds")
    @writes
    def decrement_with_lease(self, request: Request) -> HttpResponse:
        slots.give_back(self.body(LeaseReturned).lease_id)
        return self.nothing()

    @documented(body=LeaseRenewed, status=204, summary="Hold for longer")
    @writes
    def renew(self, request: Request, lease_id: UUID) -> HttpResponse:
        if not slots.renew(lease_id, self.body(LeaseRenewed).lease):
            raise Gone(LEASE_GONE)
        return self.nothing()


def shown(limits: list[ConcurrencyLimit]) -> list[dict[str, Any]]:
    return [{"id": limit.pk, "name": limit.name, "limit": limit.limit} for limit in limits]


def refused(limits: list[ConcurrencyLimit], wanted: int) -> HttpResponse:
    """The answer of a full limit. It is no error to raise: that the client waits is written down."""
    return locked(Locked(retry_after=slots.refuse(limits, wanted)))


def locked(error: Locked) -> HttpResponse:
    response = reply(error.status, error.body())
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    return response


def delete_limit(key: UUID) -> None:
    """Delete a limit. Leases over it alone go with it; those over others too still hold those."""
    over = Lease.objects.filter(pk__in=Lease.limits.through.objects.filter(concurrencylimit=key).values("lease"))
    alone = over.annotate(covers=Count("limits")).filter(covers=1)
    Lease.objects.filter(pk__in=list(alone.values_list("pk", flat=True))).delete()
    ConcurrencyLimit.objects.filter(pk=key).delete()


class TagLimitViewSet(RowViewSet):
    """`/concurrency_limits`: limits named `tag:…`, in their older shape."""

    reads = frozenset({"filter"})
    missing = "Concurrency limit not found"

    def found(self, pk: UUID | None = None, tag: str = "") -> ConcurrencyLimit:
        """The limit by id or tag, locked. Raises NotFound."""
        chosen = ConcurrencyLimit.objects.filter(pk=pk) if pk else tags.of_tags([tag])
        limit = next(iter(slots.locked(chosen)), None)
        if limit is None or not limit.name.startswith(TAG_PREFIX):
            raise NotFound(self.missing)
        return limit

    def shapes(self, limits: list[ConcurrencyLimit]) -> list[dict[str, Any]]:
        held = tags.holders([limit.pk for limit in limits])
        return [
            {
                "id": limit.pk,
                "created": limit.created,
                "updated": limit.updated,
                "tag": tags.tag_of(limit),
                "concurrency_limit": limit.limit,
                "active_slots": held.get(limit.pk, []),
            }
            for limit in limits
        ]

    @documented(body=TagLimitCreate, status=201, summary="Make the limit of a tag, or change it")
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(TagLimitCreate)
        limit = next(iter(slots.locked(tags.of_tags([body.tag]))), None)
        made = limit is None
        if limit is None:
            limit = ConcurrencyLimit(name=TAG_PREFIX + body.tag, limit=body.concurrency_limit)
            try:
                with transaction.atomic():
                    limit.save(force_insert=True)
            except IntegrityError:
                raise Conflict(INTEGRITY) from None
        else:
            limit.limit = body.concurrency_limit
            limit.save(update_fields=["limit"])
        return self.answer(self.shapes([limit])[0], 201 if made else 200)

    @writes
    def read(self, request: Request, pk: UUID | None = None, tag: str = "") -> HttpResponse:
        return self.answer(self.shapes([self.found(pk, tag)])[0])

    @documented(body=LimitPage)
    def filter(self, request: Request) -> HttpResponse:
        body = self.body(LimitPage)
        limit = bounded_limit(body.limit)
        chosen = ConcurrencyLimit.objects.filter(name__startswith=TAG_PREFIX).order_by("name")
        return self.answer(self.shapes(list(chosen[body.offset : body.offset + limit])))

    @documented(body=TagReset, summary="End all leases of the tag's limit")
    @writes
    def reset(self, request: Request, tag: str) -> HttpResponse:
        body = self.body(TagReset)
        tags.reset(self.found(tag=tag), body.slot_override or [])
        return self.answer(None)

    @writes
    def destroy(self, request: Request, pk: UUID | None = None, tag: str = "") -> HttpResponse:
        delete_limit(self.found(pk, tag).pk)
        return self.answer(None)

    @documented(body=TagSlots, summary="Take a slot of each tag's limit for a task run")
    def increment(self, request: Request) -> HttpResponse:
        body = self.body(TagSlots)
        try:
            limits = in_one_transaction(lambda: tags.hold(body.names, body.task_run_id))
        except tags.TagClosed as error:
            return locked(Locked(str(error)))
        except tags.TagFull as error:
            wait = settings.TAG_SLOT_WAIT.total_seconds()
            return locked(Locked(f"Concurrency limit for the {error.tags[0]} tag has been reached", wait))
        return self.answer([{"id": limit.pk, "name": tags.tag_of(limit), "limit": limit.limit} for limit in limits])

    @documented(body=TagSlots, summary="Give back what a task run holds of the tags' limits")
    @writes
    def decrement(self, request: Request) -> HttpResponse:
        body = self.body(TagSlots)
        limits = list(tags.of_tags(body.names).order_by("name"))
        tags.let_go(body.names, body.task_run_id)
        return self.answer(shown(limits))


tag_urls = [
    route("", TagLimitViewSet, post="create"),
    route("filter", TagLimitViewSet, post="filter"),
    route("increment", TagLimitViewSet, post="increment"),
    route("decrement", TagLimitViewSet, post="decrement"),
    route("<id:pk>", TagLimitViewSet, get="read", delete="destroy"),
    route("tag/<str:tag>", TagLimitViewSet, get="read", delete="destroy"),
    route("tag/<str:tag>/reset", TagLimitViewSet, post="reset"),
]
urlpatterns = [
    route("increment-with-lease", LimitViewSet, post="increment_with_lease"),
    route("decrement-with-lease", LimitViewSet, post="decrement_with_lease"),
    route("leases/<id:lease_id>/renew", LimitViewSet, post="renew"),
    route("increment", LimitViewSet, post="increment"),
    route("decrement", LimitViewSet, post="decrement"),
    route("", LimitViewSet, post="create"),
    route("filter", LimitViewSet, post="filter"),
    route("<str:id_or_name>", LimitViewSet, get="retrieve_named", patch="partial_update", delete="destroy"),
]

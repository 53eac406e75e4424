"""`/work_pools`. Contract: work_pools_queues_workers.md, sections 2, 3, 5 and 6."""

from __future__ import annotations

import re
from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework.request import Request

from orchestrator.core.errors import INTEGRITY, Conflict, Forbidden, NotFound, Unprocessable
from orchestrator.core.json_schema import SchemaViolation
from orchestrator.core.projection import WireRow
from orchestrator.core.viewsets import FilterActions, WireViewSet, bounded_limit, documented, writes
from workqueues import dispatch, job_variables, occupancy
from workqueues.models import WorkPool
from workqueues.models.pools import no_storage
from workqueues.projections import WORK_POOL
from workqueues.registration import create_pool, update_pool
from workqueues.schemas import PoolSlotsPage, ScheduledRunsAsked, WorkPoolCreate, WorkPoolUpdate

CLIENT = re.compile(r"prefect/(\d{1,6})\.(\d{1,6})\.(\d{1,6})\S* \(API \S+\)")
LAST_CLIENT_WITHOUT_RESULT_STORAGE = (3, 3, 7)
RESERVED = "Work pools starting with 'Prefect' are reserved for internal use."


def missing_pool(name: str) -> NotFound:
    return NotFound(f'Work pool "{name}" not found.')


def pool_named(name: str) -> WorkPool:
    pool = WorkPool.objects.filter(name=name).first()
    if pool is None:
        raise missing_pool(name)
    return pool


def refuse_reserved(name: str) -> None:
    if name.lower().startswith("prefect"):
        raise Forbidden(RESERVED)


def is_old_client(request: Request) -> bool:
    """Whether the client refuses the result storage's key as unknown."""
    found = CLIENT.fullmatch(request.META.get("HTTP_USER_AGENT", "")[:200])
    return found is not None and tuple(map(int, found.groups())) <= LAST_CLIENT_WITHOUT_RESULT_STORAGE


def without_result_storage(row: WireRow) -> None:
    row["storage_configuration"] = orjson.loads(orjson.dumps(row["storage_configuration"]))
    row["storage_configuration"].pop("default_result_storage_block_id", None)


def refuse_bad_defaults(template: dict[str, Any]) -> None:
    try:
        job_variables.check_defaults(template)
    except job_variables.BlockNotFound:
        raise NotFound("Block not found.") from None
    except SchemaViolation as error:
        raise Unprocessable(f"Validation failed for work pool's job variable defaults: {error}") from None
    except ValueError as error:
        raise Unprocessable(str(error)) from None


class WorkPoolViewSet(FilterActions):
    projection = WORK_POOL
    keys = ("work_pools",)
    ordering = ("name", "pk")

    def rows(self, rows: Any) -> list[WireRow]:
        found = super().rows(rows)
        if is_old_client(self.request):
            for row in found:
                without_result_storage(row)
        return found

    def pool(self, name: str) -> WireRow:
        row = next(iter(self.rows(WorkPool.objects.filter(name=name))), None)
        if row is None:
            raise missing_pool(name)
        return row

    @documented(body=WorkPoolCreate, status=201, summary="Create a work pool and its default queue")
    @writes
    def create(self, request: Request) -> HttpResponse:
        body = self.body(WorkPoolCreate)
        refuse_reserved(body.name)
        refuse_bad_defaults(body.base_job_template)
        columns = body.model_dump(exclude={"storage_configuration"})
        _, made = create_pool(**columns, storage_configuration=body.storage_configuration.stored())
        if not made:
            raise Conflict("A work pool with this name already exists.")
        return self.answer(self.pool(body.name), 201)

    def retrieve_by_name(self, request: Request, name: str) -> HttpResponse:
        return self.answer(self.pool(name))

    @documented(body=WorkPoolUpdate, status=204)
    @writes
    def partial_update(self, request: Request, name: str) -> HttpResponse:
        body = self.body(WorkPoolUpdate)
        changes = body.given()
        if changes.keys() - {"is_paused", "concurrency_limit"}:
            refuse_reserved(name)
        pool = pool_named(name)
        if changes.get("is_paused", False) is None:
            raise Conflict(INTEGRITY)
        if "storage_configuration" in changes:
            given = body.storage_configuration
            changes["storage_configuration"] = given.stored() if given else no_storage()
        update_pool(pool, changes)
        return self.nothing()

    @writes
    def destroy(self, request: Request, name: str) -> HttpResponse:
        refuse_reserved(name)
        pool_named(name).delete()
        return self.nothing()

    @documented(body=PoolSlotsPage, summary="Who uses the pool's slots")
    def concurrency_status(self, request: Request, name: str) -> HttpResponse:
        body = self.body(PoolSlotsPage)
        limit = bounded_limit(body.limit)
        pool = WorkPool.objects.filter(name=name).first()
        if pool is None:
            raise NotFound(f"Work pool '{name}' not found.")
        return self.answer(occupancy.of_pool(pool, body.page, limit, body.flow_run_limit))


class HandOutViewSet(WireViewSet):
    """What a worker polls."""

    @documented(body=ScheduledRunsAsked, summary="The runs that a worker of the pool may take now")
    def get_scheduled_flow_runs(self, request: Request, name: str) -> HttpResponse:
        body = self.body(ScheduledRunsAsked)
        limit = bounded_limit(body.limit)
        window = dispatch.Window(body.scheduled_before, body.scheduled_after, limit)
        lines = dispatch.lines_of(name)
        considered = dispatch.named(lines, name, body.work_queue_names or ())
        answer = self.answer(dispatch.runs_on_offer(lines, considered, window))
        dispatch.polled((line.id, line.status, line.last_polled) for line in considered)
        return answer

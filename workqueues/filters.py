"""Filters of pools, queues and workers (contract: filters_sorts.md, section 2.8)."""

from __future__ import annotations

from uuid import UUID

from orchestrator.core.criteria import Criterion
from orchestrator.core.filters import RowFilter, Through
from orchestrator.core.wire import UtcMoment
from workqueues.models.workers import WorkerStatus


class WorkPoolFilter(RowFilter):
    wire_key = "work_pools"
    label = "workqueues.WorkPool"
    id = Criterion(UUID, "any_", path="pk")
    name = Criterion(str, "any_", path="name")
    type = Criterion(str, "any_", path="type")


class WorkQueueFilter(RowFilter):
    wire_key = "work_pool_queues"
    label = "workqueues.WorkQueue"
    id = Criterion(UUID, "any_", path="pk")
    name = Criterion(str, "any_ startswith_", path="name")
    through = {"work_pools": Through("workqueues.WorkPool", id="work_pool_id")}


class WorkerFilter(RowFilter):
    wire_key = "workers"
    label = "workqueues.Worker"
    last_heartbeat_time = Criterion(UtcMoment, "before_ after_", path="last_heartbeat_time")
    status = Criterion(WorkerStatus, "any_ not_any_", path="status")

"""One function a row: it makes the row and what that cannot exist without."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from deployments.models import Deployment
from flowruns.models import Flow, FlowRun, FlowRunState, TaskRun, TaskRunState
from flowruns.states import TERMINAL, default_name
from workqueues.models import WorkPool, WorkQueue

numbers = count(1)


def flow(name: str = "", **columns: Any) -> Flow:
    return Flow.objects.create(name=name or f"flow-{next(numbers)}", **columns)


def work_pool(name: str = "", **columns: Any) -> WorkPool:
    pool = WorkPool.objects.create(name=name or f"pool-{next(numbers)}", **{"type": "process", **columns})
    pool.default_queue = WorkQueue.objects.create(work_pool=pool, name="default", priority=1)
    pool.save(update_fields=["default_queue"])
    return pool


def work_queue(pool: WorkPool | None = None, name: str = "", **columns: Any) -> WorkQueue:
    number = next(numbers)
    return WorkQueue.objects.create(
        work_pool=pool or work_pool(), name=name or f"queue-{number}", **{"priority": number, **columns}
    )


def deployment(name: str = "", **columns: Any) -> Deployment:
    columns.setdefault("flow", None)
    columns["flow"] = columns["flow"] or flow()
    return Deployment.objects.create(name=name or f"deployment-{next(numbers)}", **columns)


def _state_columns(type_: str, name: str, at: datetime) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "state_type": type_,
        "state_name": name,
        "state_timestamp": at,
        "expected_start_time": at,
    }
    if type_ == "SCHEDULED":
        columns["next_scheduled_start_time"] = at
    if type_ in {"RUNNING", *TERMINAL}:
        columns |= {"start_time": at, "start_delay_seconds": 0.0, "run_count": 1}
    if type_ in TERMINAL:
        columns["end_time"] = at + timedelta(seconds=1)
    return columns


def flow_run(state: str = "SCHEDULED", state_name: str = "", at: datetime | None = None, **columns: Any) -> FlowRun:
    """A flow run in `state` since `at` (now); scheduled runs are scheduled for `at`."""
    at = at or timezone.now()
    if owner := columns.get("deployment"):
        columns.setdefault("flow", owner.flow)
        columns.setdefault("work_queue", owner.work_queue)
    columns["flow"] = columns.get("flow") or flow()
    run = FlowRun(**_state_columns(state, state_name or default_name(state), at) | columns)
    details = {"scheduled_time": at.isoformat()} if state == "SCHEDULED" else {}
    current = FlowRunState(run=run, type=state, name=run.state_name, timestamp=at, details=details)
    run.state_id = current.pk
    run.save(force_insert=True)
    current.save(force_insert=True)
    return run


def task_run(state: str = "RUNNING", at: datetime | None = None, **columns: Any) -> TaskRun:
    at = at or timezone.now()
    number = next(numbers)
    columns = {"task_key": "task", "dynamic_key": str(number), **columns}
    run = TaskRun(**_state_columns(state, default_name(state), at) | columns)
    current = TaskRunState(run=run, type=state, name=run.state_name, timestamp=at)
    run.state_id = current.pk
    run.save(force_insert=True)
    current.save(force_insert=True)
    return run

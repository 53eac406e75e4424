"""Two at the same instant: one has it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from flowruns.orchestration.engine import propose
from flowruns.orchestration.proposal import ProposedState
from flowruns.states import StateType
from orchestrator.concurrency.models import ConcurrencyLimit
from tests.factories import deployment, flow_run

ROUNDS = 100
pytestmark = pytest.mark.django_db(transaction=True)


def both(pool: ThreadPoolExecutor, work: Callable[[UUID], Any], keys: tuple[UUID, UUID]) -> list[Any]:
    """What two threads get that begin together."""
    start = Barrier(2)

    def begin(key: UUID) -> Any:
        start.wait(10)
        return work(key)

    return [future.result(30) for future in [pool.submit(begin, key) for key in keys]]


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(2) as threads:
        yield threads
        start = Barrier(2)
        for closed in [threads.submit(lambda: (start.wait(10), connection.close())) for _ in range(2)]:
            closed.result(30)


def pending(key: UUID) -> str:
    return propose(key, ProposedState(StateType.PENDING)).status


def test_of_two_workers_that_take_a_run_exactly_one_has_it(pool: ThreadPoolExecutor) -> None:
    runs = [flow_run("SCHEDULED") for _ in range(ROUNDS)]
    for run in runs:
        assert sorted(both(pool, pending, (run.pk, run.pk))) == ["ABORT", "ACCEPT"]
        assert run.states.count() == 2


def test_of_two_runs_at_the_last_slot_exactly_one_has_it(pool: ThreadPoolExecutor) -> None:
    for _ in range(10):
        limit = ConcurrencyLimit.objects.create(name=f"deployment:{uuid4()}", limit=1)
        of = deployment(concurrency_limit=limit)
        runs = [flow_run("SCHEDULED", deployment=of) for _ in range(2)]
        assert sorted(both(pool, pending, (runs[0].pk, runs[1].pk))) == ["ACCEPT", "REJECT"]
        limit.refresh_from_db()
        assert limit.active_slots == 1

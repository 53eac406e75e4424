"""Global limits over the wire: slots of all limits named or of none, leases, and truthful waits."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from orchestrator.concurrency.models import ConcurrencyLimit, Lease
from orchestrator.concurrency.services import Repossessor
from tests.api import call, get, post

pytestmark = pytest.mark.django_db
LIMITS = "/v2/concurrency_limits"


def limit(name: str = "db", **columns: Any) -> ConcurrencyLimit:
    return ConcurrencyLimit.objects.create(**{"name": name, "limit": 2, **columns})


def used(name: str = "db") -> int:
    return get(f"{LIMITS}/{name}")[1]["active_slots"]


def take(*names: str, slots: int = 1, **more: Any) -> tuple[int, Any]:
    return post(f"{LIMITS}/increment-with-lease", {"names": names, "slots": slots, **more})


def test_slots_are_taken_and_given_back() -> None:
    made = limit()
    assert post(f"{LIMITS}/increment", {"names": ["db"], "slots": 2}) == (200, [{"id": str(made.pk), "name": "db", "limit": 2}])
    assert used() == 2
    assert post(f"{LIMITS}/decrement", {"names": ["db"], "slots": 1, "occupancy_seconds": 3.5})[0] == 200
    assert used() == 1
    made.refresh_from_db()
    assert made.avg_slot_occupancy_seconds == pytest.approx(2.0 + (3.5 - 2.0) / 4)


def test_a_full_limit_says_when_to_ask_again_and_counts_who_was_refused(client: Client) -> None:
    made = limit(limit=1, avg_slot_occupancy_seconds=4.0)
    assert take("db")[0] == 200
    body = '{"names": ["db"], "slots": 1}'
    answer = client.post(f"/api{LIMITS}/increment", body, content_type="application/json")
    assert (answer.status_code, answer.json()) == (423, {"detail": "Locked"})
    assert 0.74 * 4 <= float(answer["Retry-After"]) <= 1.31 * 4
    made.refresh_from_db()
    assert made.denied_slots == 1
    # The next one waits behind the first.
    assert float(client.post(f"/api{LIMITS}/increment", body, content_type="application/json")["Retry-After"]) > 0.74 * 8


def test_of_several_limits_all_slots_are_taken_or_none() -> None:
    limit("free"), limit("full", limit=1, active_slots=1)
    assert take("free", "full")[0] == 423
    assert (used("free"), used("full"), Lease.objects.count()) == (0, 1, 0)


def test_names_that_are_no_limits_are_passed_over_and_still_leased() -> None:
    status, body = take("nobody")
    assert (status, body["limits"]) == (200, [])
    assert post(f"{LIMITS}/leases/{body['lease_id']}/renew", {"lease_duration": 60})[0] == 204
    assert take()[0] == 200


def test_an_inactive_limit_is_shown_and_not_counted() -> None:
    made = limit(active=False, limit=0)
    assert take("db", slots=5)[1]["limits"] == [{"id": str(made.pk), "name": "db", "limit": 0}]
    assert used() == 0


@pytest.mark.parametrize(
    ("columns", "asked", "words"),
    [
        ({}, {"slots": 3}, "greater than the limit"),
        ({"limit": 0}, {"slots": 1}, "greater than the limit"),
        ({}, {"slots": 1, "mode": "rate_limit"}, "decay configured: 'db'"),
    ],
)
def test_what_waiting_cannot_help_is_refused(columns: dict[str, Any], asked: dict[str, Any], words: str) -> None:
    limit(**columns)
    status, body = post(f"{LIMITS}/increment", {"names": ["db"], **asked})
    assert status == 422
    assert words in body["detail"]


@pytest.mark.parametrize(
    "wrong", [{"slots": 0}, {"slots": 1, "lease_duration": 5}, {"slots": 1, "holder": {"type": "cat", "id": str(uuid4())}}]
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    assert post(f"{LIMITS}/increment-with-lease", {"names": ["db"], **wrong})[0] == 422


def test_a_lease_is_renewed_returned_once_and_then_gone() -> None:
    limit()
    lease = take("db", slots=2, holder={"type": "task_run", "id": str(uuid4())})[1]["lease_id"]
    assert call("POST", f"{LIMITS}/leases/{lease}/renew") == (204, None)
    assert post(f"{LIMITS}/decrement-with-lease", {"lease_id": lease})[0] == 204
    assert post(f"{LIMITS}/decrement-with-lease", {"lease_id": lease})[0] == 204
    assert used() == 0
    assert post(f"{LIMITS}/leases/{lease}/renew") == (
        410,
        {"detail": "Lease not found - it may have expired or been revoked"},
    )


def test_slots_of_a_rate_limit_come_back_by_themselves() -> None:
    made = limit(limit=1, slot_decay_per_second=0.5)
    assert post(f"{LIMITS}/increment", {"names": ["db"], "slots": 1, "mode": "rate_limit"})[0] == 200
    assert post(f"{LIMITS}/increment", {"names": ["db"], "slots": 1, "mode": "rate_limit"})[0] == 423
    ConcurrencyLimit.objects.filter(pk=made.pk).update(updated=timezone.now() - timedelta(seconds=3), active_slots=1)
    assert used() == 0
    assert post(f"{LIMITS}/increment", {"names": ["db"], "slots": 1, "mode": "rate_limit"})[0] == 200


def test_slots_of_a_holder_that_died_are_freed_by_the_service() -> None:
    limit()
    kept, lost = take("db")[1]["lease_id"], take("db")[1]["lease_id"]
    Lease.objects.filter(pk=lost).update(expires_at=timezone.now() - timedelta(seconds=1))
    Repossessor().poll()
    assert used() == 1
    assert list(Lease.objects.values_list("pk", flat=True).distinct()) == [Lease.objects.get(pk=kept).pk]


def test_a_limit_that_is_deleted_leaves_what_else_its_holders_hold() -> None:
    limit("gone"), limit("stays")
    alone, both = take("gone")[1]["lease_id"], take("gone", "stays")[1]["lease_id"]
    assert call("DELETE", f"{LIMITS}/gone")[0] == 204
    assert {str(key) for key in Lease.objects.values_list("pk", flat=True)} == {both}
    assert used("stays") == 1
    assert alone != both


def test_tags_are_limits_of_their_own_shape() -> None:
    status, made = post("/concurrency_limits/", {"tag": "db", "concurrency_limit": 1})
    assert (status, made["tag"], made["concurrency_limit"], made["active_slots"]) == (201, "db", 1, [])
    assert post("/concurrency_limits/", {"tag": "db", "concurrency_limit": 2})[0] == 200
    post("/concurrency_limits/", {"tag": "db", "concurrency_limit": 1})
    first, second = str(uuid4()), str(uuid4())
    taken = post("/concurrency_limits/increment", {"names": ["db", "other"], "task_run_id": first})
    assert taken == (200, [{"id": made["id"], "name": "db", "limit": 1}])
    status, body = post("/concurrency_limits/increment", {"names": ["db"], "task_run_id": second})
    assert (status, body) == (423, {"detail": "Concurrency limit for the db tag has been reached"})
    assert get("/concurrency_limits/tag/db")[1]["active_slots"] == [first]
    assert get(f"{LIMITS}/{made['id']}")[1]["name"] == "tag:db"
    back = post("/concurrency_limits/decrement", {"names": ["db"], "task_run_id": first})
    assert back == (200, [{"id": made["id"], "name": "tag:db", "limit": 1}])
    assert get("/concurrency_limits/tag/db")[1]["active_slots"] == []
    assert call("DELETE", "/concurrency_limits/tag/db") == (200, None)
    assert get("/concurrency_limits/tag/db") == (404, {"detail": "Concurrency limit not found"})


def test_a_tag_whose_limit_is_0_is_refused_without_a_time_to_wait(client: Client) -> None:
    post("/concurrency_limits/", {"tag": "db", "concurrency_limit": 0})
    body = f'{{"names": ["db"], "task_run_id": "{uuid4()}"}}'
    answer = client.post("/api/concurrency_limits/increment", body, content_type="application/json")
    assert answer.status_code == 423
    assert "is 0 and will deadlock" in answer.json()["detail"]
    assert "Retry-After" not in answer


def test_a_reset_ends_all_leases_but_those_named() -> None:
    post("/concurrency_limits/", {"tag": "db", "concurrency_limit": 5})
    old, new = str(uuid4()), str(uuid4())
    post("/concurrency_limits/increment", {"names": ["db"], "task_run_id": old})
    assert post("/concurrency_limits/tag/db/reset", {"slot_override": [new]}) == (200, None)
    assert get("/concurrency_limits/tag/db")[1]["active_slots"] == [new]
    assert used("tag:db") == 1
    assert [item["tag"] for item in post("/concurrency_limits/filter")[1]] == ["db"]


@pytest.mark.django_db(transaction=True)
def test_32_takers_of_5_slots_never_hold_more_and_lose_none() -> None:
    limit(limit=5)
    most: list[int] = []

    def work(_: int) -> int:
        done = 0
        try:
            for _ in range(6):
                status, body = take("db")
                if status == 423:
                    continue
                assert status == 200
                most.append(Lease.objects.count())
                done += 1
                assert post(f"{LIMITS}/decrement-with-lease", {"lease_id": body["lease_id"]})[0] == 204
        finally:
            connection.close()
        return done

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(work, range(32))) > 0
    assert max(most) <= 5
    assert (used(), Lease.objects.count()) == (0, 0)


def test_the_wait_is_a_number_that_clients_can_read(client: Client) -> None:
    limit(limit=1, active_slots=1)
    answer = client.post(f"/api{LIMITS}/increment", '{"names": ["db"], "slots": 1}', content_type="application/json")
    assert re.fullmatch(r"\d+\.\d+", answer["Retry-After"])

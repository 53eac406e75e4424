"""Automations from the request that makes them to what they do: once, whoever else is up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from flowruns.models import FlowRun
from orchestrator.automations import evaluation
from orchestrator.automations.models import Automation, Bucket, PendingAction
from orchestrator.automations.services import Actions, Triggers
from orchestrator.blocks.models import Variable
from orchestrator.events.models import Event
from tests.api import call, get, post
from tests.factories import deployment, flow_run, work_pool

pytestmark = pytest.mark.django_db
NOTHING = {"type": "do-nothing"}


def make(actions: Any = (NOTHING,), expect: str = "shop.sold", status: int = 201, **more: Any) -> Any:
    trigger = {"posture": "Reactive", "expect": [expect], **more.pop("trigger", {})}
    got, body = post("/automations/", {"name": "watch", "trigger": trigger, "actions": list(actions), **more})
    assert got == status, body
    if status == 201:
        work()  # the evaluator begins with what comes from now on
    return body


def happen(name: str = "shop.sold", resource: str = "shop.1", **more: Any) -> str:
    key = str(uuid4())
    sent = {"id": key, "occurred": timezone.now().isoformat(), "event": name, "resource": {"prefect.resource.id": resource}}
    assert post("/events", [sent | more])[0] == 204
    return key


def work() -> None:
    """What the services do in a second or two."""
    Event.objects.filter(received__gt=timezone.now() - timedelta(seconds=3)).update(received=timezone.now())
    triggers = Triggers()
    triggers.poll()
    Actions().poll()


def told(what: str = "action.executed") -> list[Event]:
    return list(Event.objects.filter(event=f"prefect.automation.{what}").order_by("position"))


def test_an_automation_reads_back_and_can_be_changed() -> None:
    made = make(description="d", tags=["t"])
    key = made["id"]
    assert made["trigger"]["type"] == "event"
    assert (made["trigger"]["threshold"], made["trigger"]["within"], made["enabled"]) == (1, 0.0, True)
    assert get(f"/automations/{key}")[1] == made
    assert [item["id"] for item in post("/automations/filter", {"automations": {"name": {"any_": ["watch"]}}})[1]] == [key]
    assert post("/automations/count", {"automations": {"tags": {"all_": ["t"]}}})[1] == 1
    assert call("PATCH", f"/automations/{key}", {"enabled": False})[0] == 204
    assert get(f"/automations/{key}")[1]["enabled"] is False
    assert call("PATCH", f"/automations/{key}", {"name": "x"})[0] == 422
    body = {"name": "new", "trigger": made["trigger"], "actions": [NOTHING]}
    assert call("PUT", f"/automations/{key}", body)[0] == 204
    changed = get(f"/automations/{key}")[1]
    assert (changed["name"], changed["description"], changed["enabled"]) == ("new", "d", False)
    assert changed["trigger"]["id"] != made["trigger"]["id"]
    assert call("DELETE", f"/automations/{key}")[0] == 204
    assert get(f"/automations/{key}") == (404, {"exception_message": "Automation not found"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"actions": [{"type": "fly"}]},
        {"actions": [{"type": "declare-incident"}]},
        {"actions": [{"type": "run-deployment"}]},
        {"actions": [{"type": "run-deployment", "source": "inferred", "deployment_id": str(uuid4())}]},
        {"actions": [{"type": "run-deployment", "source": "inferred", "parameters": {"x": "{{ y"}}]},
        {"actions": [{"type": "send-notification", "block_document_id": str(uuid4()), "body": "{% for %}"}]},
        {"trigger": {"type": "metric"}},
        {"trigger": {"type": "compound", "triggers": [], "require": "all", "within": 1}},
        {
            "trigger": {"posture": "Reactive", "expect": ["prefect.flow-run.*"]},
            "actions": [{"type": "run-deployment", "source": "inferred"}],
        },
        {"owner": "me"},
    ],
)
def test_one_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    body = {"name": "x", "trigger": {"posture": "Reactive"}, "actions": [NOTHING], **wrong}
    assert post("/automations/", body)[0] == 422
    assert not Automation.objects.exists()


def test_an_event_fires_it_once_and_what_it_did_is_told() -> None:
    key = make()["id"]
    cause = happen(related=[{"prefect.resource.id": "street", "prefect.resource.role": "street"}])
    for _ in range(3):
        work()
    (fired,) = told("triggered")
    assert fired.resource["prefect.resource.id"] == f"prefect.automation.{key}"
    assert fired.payload["triggering_event"]["id"] == cause
    (begun,), (done,) = told("action.triggered"), told()
    assert done.follows == begun.id
    assert {item["prefect.resource.role"]: item["prefect.resource.id"] for item in done.related} == {
        "automation-triggered-event": f"prefect.event.{fired.id}",
        "triggering-event": f"prefect.event.{cause}",
    }
    assert done.payload["action_type"] == "do-nothing"
    assert done.resource["prefect.posture"] == "Reactive"


def test_what_happened_before_it_was_made_is_nothing_to_it() -> None:
    happen()
    make()
    work()
    assert not told("triggered")


def test_a_disabled_one_does_not_fire() -> None:
    make(enabled=False)
    happen()
    work()
    assert not told("triggered")


def test_counts_are_kept_between_batches_and_apart_by_label() -> None:
    make(trigger={"threshold": 2, "within": 60, "for_each": ["prefect.resource.id"]})
    happen(resource="a"), work()
    happen(resource="b"), work()
    assert not told("triggered")
    happen(resource="a"), work()
    assert [event.payload["triggering_labels"] for event in told("triggered")] == [{"prefect.resource.id": "a"}]


def test_composites_fire_when_their_children_have() -> None:
    children = [{"posture": "Reactive", "expect": [name]} for name in ("one", "two")]
    make(trigger={"type": "sequence", "triggers": children, "within": 60, "posture": None, "expect": None} | {}, status=422)
    body = {"type": "sequence", "triggers": children, "within": 60}
    post("/automations/", {"name": "both", "trigger": body, "actions": [NOTHING]})
    work()
    happen("two"), work()
    happen("one"), work()
    assert not told("triggered")
    happen("two"), work()
    assert len(told("triggered")) == 1
    assert told()[0].resource["prefect.trigger-type"] == "sequence"


def test_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    make(
        trigger={
            "posture": "Proactive",
            "after": ["start"],
            "expect": ["stop"],
            "for_each": ["prefect.resource.id"],
            "within": 10,
        }
    )
    happen("start", "good"), happen("start", "bad"), work()
    happen("stop", "good"), work()
    Bucket.objects.update(end=timezone.now() - timedelta(seconds=1))
    work()
    assert [event.payload["triggering_labels"] for event in told("triggered")] == [{"prefect.resource.id": "bad"}]
    assert not Bucket.objects.exists()


def test_a_run_is_made_with_what_the_event_tells() -> None:
    owner = deployment("greet", parameters={"who": "nobody", "n": 1})
    Variable.objects.create(name="five", value=5)
    parameters = {
        "who": "{{ event.payload.who }}",
        "items": "{{ event.payload.list }}",
        "text": "from {{ event.resource.id }} by {{ labels['x'] }}!",
        "five": {"__prefect_kind": "workspace_variable", "variable_name": "five"},
    }
    made = make(
        [{"type": "run-deployment", "deployment_id": str(owner.pk), "parameters": parameters}], trigger={"for_each": ["x"]}
    )
    happen(payload={"who": "ada", "list": [1, {"a": None}]})
    work(), work()
    run = FlowRun.objects.get(deployment=owner.pk)
    assert run.parameters == {
        "who": "ada",
        "n": 1,
        "items": [1, {"a": None}],
        "text": "from shop.1 by !",
        "five": 5,
    }
    assert run.created_by == {"id": made["id"], "type": "AUTOMATION", "display_value": "watch"}
    roles = {item["prefect.resource.role"]: item["prefect.resource.id"] for item in told()[0].related}
    assert (roles["target"], roles["flow-run"]) == (f"prefect.deployment.{owner.pk}", f"prefect.flow-run.{run.pk}")
    assert [item["id"] for item in get(f"/automations/related-to/prefect.deployment.{owner.pk}")[1]] == [made["id"]]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"type": "cancel-flow-run"}, ("CANCELLING", "Cancelling")),
        ({"type": "change-flow-run-state", "state": "FAILED", "name": "Dropped"}, ("FAILED", "Dropped")),
        ({"type": "change-flow-run-state", "state": "PENDING"}, ("RUNNING", "Running")),
        ({"type": "delete-flow-run"}, None),
    ],
)
def test_the_run_that_the_event_tells_of_is_acted_on(action: dict[str, Any], expected: Any) -> None:
    run = flow_run("RUNNING")
    make([action], expect="prefect.flow-run.Running")
    happen("prefect.flow-run.Running", f"prefect.flow-run.{run.pk}")
    work(), work()
    found = FlowRun.objects.filter(pk=run.pk).values_list("state_type", "state_name").first()
    assert found == expected
    assert len(told()) + len(told("action.failed")) == 1
    if action.get("state") == "PENDING":
        assert told("action.failed")[0].payload["reason"].startswith("Failed to set state: This run is in a RUNNING state")


def test_pools_queues_deployments_and_automations_are_switched() -> None:
    pool = work_pool("local")
    owner = deployment("d", work_queue=pool.default_queue)
    other = make(expect="never")["id"]
    make(
        [
            {"type": "pause-work-pool", "work_pool_id": str(pool.pk)},
            {"type": "pause-work-queue", "source": "inferred"},
            {"type": "pause-deployment", "deployment_id": str(owner.pk)},
            {"type": "pause-automation", "automation_id": other},
        ]
    )
    happen(related=[{"prefect.resource.id": f"prefect.work-queue.{pool.default_queue_id}", "prefect.resource.role": "q"}])
    work()
    for row in (pool, owner):
        row.refresh_from_db()
    pool.default_queue.refresh_from_db()
    assert (pool.is_paused, pool.default_queue.is_paused, owner.paused) == (True, True, True)
    assert get(f"/automations/{other}")[1]["enabled"] is False
    assert [event.payload["action_index"] for event in told()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ({"type": "cancel-flow-run"}, "No flow run could be inferred"),
        ({"type": "pause-deployment", "source": "inferred"}, "No deployment could be inferred"),
        ({"type": "run-deployment", "deployment_id": str(uuid4())}, "Unexpected status from 'run-deployment' action: 404"),
        ({"type": "call-webhook", "block_document_id": str(uuid4())}, "not found"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_reason(action: dict[str, Any], reason: str) -> None:
    make([action, NOTHING])
    happen()
    work()
    assert reason in told("action.failed")[0].payload["reason"]
    assert len(told()) == 1, "the other action is done all the same"
    assert not PendingAction.objects.exists()


def test_owned_ones_go_with_their_owner() -> None:
    make(owner_resource="prefect.deployment.x")
    assert len(get("/automations/related-to/prefect.deployment.x")[1]) == 1
    assert call("DELETE", "/automations/owned-by/prefect.deployment.x") == (202, None)
    assert call("DELETE", "/automations/owned-by/prefect.deployment.x") == (202, None)
    assert not Automation.objects.exists()


@pytest.mark.parametrize("path", ["/automations/templates/validate", "/templates/validate"])
def test_templates_are_checked_for_who_writes_them(path: str) -> None:
    assert post(path, "{{ flow_run.name }}") == (204, None)
    assert call("POST", path) == (204, None)
    status, body = post(path, "line\n{{ oops")
    assert (status, body["error"]["line"], body["error"]["source"]) == (422, 2, "line\n{{ oops")
    assert post(path, "{% for a in b %}{% for c in d %}{% for e in f %}{% endfor %}{% endfor %}{% endfor %}")[0] == 422
    assert post(path, 5)[0] == 422


class Received(BaseHTTPRequestHandler):
    requests: list[Any] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.path, self.headers["Host"], self.headers["X-Token"], json.loads(body)))
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(b"thanks")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[str]:
    Received.requests.clear()
    server = HTTPServer(("127.0.0.1", 0), Received)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def webhook(url: str) -> str:
    block_type = get("/block_types/slug/webhook")[1]["id"]
    schema = post("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [block_type]}}})[1][0]["id"]
    data = {"url": url, "method": "POST", "headers": {"X-Token": "t"}}
    body = {"name": "hook", "data": data, "block_type_id": block_type, "block_schema_id": schema}
    return str(post("/block_documents/", body)[1]["id"])


def test_a_webhook_is_called_where_operators_allow_it(receiver: str, settings: Any) -> None:
    action = {
        "type": "call-webhook",
        "block_document_id": webhook(f"{receiver}/x"),
        "payload": {"who": "{{ event.payload.who }}"},
    }
    make([action])
    happen(payload={"who": "ada"})
    work()
    assert "private network" in told("action.failed")[0].payload["reason"]
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1"]
    happen(payload={"who": "ada"})
    work()
    assert Received.requests == [("/x", receiver.removeprefix("http://"), "t", {"who": "ada"})]
    done = told()[0]
    assert (done.payload["status_code"], done.payload["response_body"]) == (200, "thanks")
    assert {"block", "block-type"} <= {item["prefect.resource.role"] for item in done.related}


def test_a_redirect_is_not_followed(receiver: str, settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1"]
    make([{"type": "call-webhook", "block_document_id": webhook(f"{receiver}/away"), "payload": "{}"}])
    happen()
    work()
    assert told()[0].payload["status_code"] == 302
    assert len(Received.requests) == 1


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "http://[::ffff:10.0.0.1]/", "file:///etc/passwd", "http://0/", "ftp://x/", ""]
)
def test_no_private_address_is_reached_by_any_spelling(url: str) -> None:
    make([{"type": "call-webhook", "block_document_id": webhook(url), "payload": "{}"}])
    happen()
    work()
    assert told("action.failed")


@pytest.mark.django_db(transaction=True)
def test_several_copies_fire_once() -> None:
    make(trigger={"threshold": 2})

    def serve(_: int) -> None:
        try:
            for _ in range(5):
                Triggers().poll()
                Actions().poll()
        finally:
            connection.close()

    for _ in range(10):
        happen()
    Event.objects.update(received=timezone.now())
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(serve, range(4)))
    deadline = timezone.now() + timedelta(seconds=10)
    while (evaluation.waiting() or PendingAction.objects.exists()) and timezone.now() < deadline:
        serve(0)
    assert len(told("triggered")) == len(told()) == 5

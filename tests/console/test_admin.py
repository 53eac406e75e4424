"""Every page of the admin opens, on full and on empty tables, and its actions go through the API's door."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from deployments import scheduling
from deployments.models import DeploymentSchedule
from flowruns.models import FlowRun
from tests.factories import deployment, flow_run, task_run, work_pool
from workqueues.models import WorkPool

pytestmark = pytest.mark.django_db
CRON = {"cron": "0 9 * * 1-5", "timezone": "Europe/Vienna", "day_or": True}


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.fixture
def rows() -> dict[str, Any]:
    pool = work_pool("local")
    owner = deployment("nightly", work_queue=pool.default_queue)
    identity = scheduling.schedule_identity(owner.pk, CRON, {}, None)
    schedule = DeploymentSchedule.objects.create(deployment=owner, schedule=CRON, identity=identity)
    run = flow_run("SCHEDULED", deployment=owner, name="<script>alert(1)</script>")
    task_run(flow_run=flow_run("RUNNING", deployment=owner))
    return {"deployment": owner, "schedule": schedule, "run": run, "pool": pool}


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model._meta.label)
def test_every_list_opens(operator: Client, rows: dict[str, Any], model: Any) -> None:
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    assert operator.get(address).status_code == 200
    for row in model._default_manager.all()[:1]:
        page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[row.pk])
        assert operator.get(page).status_code == 200


def test_the_first_page_counts_and_escapes(operator: Client, rows: dict[str, Any]) -> None:
    page = operator.get("/admin/").content.decode()
    assert "Runs of the last day" in page
    assert "<script>alert(1)</script>" not in page


def test_a_schedule_is_shown_in_words_with_its_next_times(operator: Client, rows: dict[str, Any]) -> None:
    page = operator.get(reverse("admin:deployments_deploymentschedule_change", args=[rows["schedule"].pk])).content.decode()
    assert "At 09:00, Monday" in page
    assert page.count("09:00:00 CE") == 10


@pytest.mark.parametrize("question", ["late", "stuck", "failing", "next"])
def test_questions_are_answered(operator: Client, rows: dict[str, Any], question: str) -> None:
    assert operator.get(reverse("admin:flowruns_flowrun_changelist"), {"question": question}).status_code == 200


def act(operator: Client, model: str, action: str, key: Any) -> None:
    body = {"action": action, "_selected_action": [str(key)]}
    assert operator.post(reverse(f"admin:{model}_changelist"), body).status_code == 302


def test_actions_go_through_the_same_door_as_the_api(operator: Client, rows: dict[str, Any]) -> None:
    owner, run, pool = rows["deployment"], rows["run"], rows["pool"]
    act(operator, "deployments_deployment", "schedule_horizon", owner.pk)
    assert owner.runs.filter(auto_scheduled=True).count() == 3
    act(operator, "deployments_deployment", "pause", owner.pk)
    owner.refresh_from_db()
    assert owner.paused and not owner.runs.filter(auto_scheduled=True).exists()
    act(operator, "deployments_deployment", "run_now", owner.pk)
    assert owner.runs.filter(state_type="SCHEDULED").count() == 2
    act(operator, "flowruns_flowrun", "cancel", run.pk)
    assert FlowRun.objects.get(pk=run.pk).state_type == "CANCELLED"
    act(operator, "workqueues_workpool", "pause", pool.pk)
    assert WorkPool.objects.get(pk=pool.pk).is_paused


def test_who_may_only_look_cannot_act(client: Client, rows: dict[str, Any]) -> None:
    client.force_login(User.objects.create_user("looker", is_staff=True))
    assert client.get(reverse("admin:flowruns_flowrun_changelist")).status_code == 403
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("model", ["flowruns_flowrun", "flowruns_taskrun", "flowruns_flowrunstate", "deployments_deployment"])
def test_a_list_costs_the_same_number_of_queries_whatever_its_length(operator: Client, rows: dict[str, Any], model: str) -> None:
    counts = []
    for number in (1, 10):
        for i in range(number):
            owner = deployment(f"d-{number}-{i}", work_queue=rows["pool"].default_queue)
            task_run(flow_run=flow_run("RUNNING", deployment=owner))
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(reverse(f"admin:{model}_changelist")).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]

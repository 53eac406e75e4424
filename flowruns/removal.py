"""Deleting flows and runs with what belongs to them, in sets: a fixed number of statements, whatever goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db.models import QuerySet

from flowruns.models import Flow, FlowRun, FlowRunInput, FlowRunState, Log, TaskDelivery, TaskRun, TaskRunState
from orchestrator.core.databases import is_postgresql


def delete_rows(rows: QuerySet[Any]) -> int:
    """Delete exactly these rows in one statement; how many went. What points to them is the caller's affair."""
    return rows._raw_delete(rows.db)


def delete_task_runs(rows: QuerySet[TaskRun]) -> int:
    FlowRun.objects.filter(parent_task_run__in=rows).update(parent_task_run=None)
    delete_rows(Log.objects.filter(task_run_id__in=rows.values("pk")))
    delete_rows(TaskDelivery.objects.filter(run__in=rows))
    delete_rows(TaskRunState.objects.filter(run__in=rows))
    return delete_rows(rows)


def delete_flow_runs(rows: QuerySet[FlowRun]) -> int:
    """Delete flow runs with their states, task runs and logs. Their subflow runs stay, without a parent.

    They are locked first, in the order of their keys: whoever is writing a state to one of them finishes before.
    """
    if is_postgresql():
        rows = FlowRun.objects.filter(pk__in=list(rows.order_by("pk").select_for_update().values_list("pk", flat=True)))
    delete_task_runs(TaskRun.objects.filter(flow_run__in=rows))
    delete_rows(Log.objects.filter(flow_run_id__in=rows.values("pk")))
    delete_rows(FlowRunInput.objects.filter(flow_run__in=rows))
    delete_rows(FlowRunState.objects.filter(run__in=rows))
    return delete_rows(rows)


def delete_flows(keys: Iterable[UUID]) -> int:
    """Delete flows with their deployments and runs (flows_deployments.md, section 7: no purge, limits stay)."""
    keys = list(keys)
    delete_flow_runs(FlowRun.objects.filter(flow__in=keys))
    apps.get_model("deployments.Deployment")._default_manager.filter(flow__in=keys).delete()
    return delete_rows(Flow.objects.filter(pk__in=keys))

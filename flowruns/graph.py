"""The nodes and edges of one flow run (contract: runs_states_orchestration.md, sections 2 and 2.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from flowruns.models import Artifact, FlowRun, FlowRunState, LatestArtifact, TaskRun
from orchestrator.core.errors import BadRequest, Missing

ENCAPSULATING = "__parents__"
LATEST = datetime.max.replace(tzinfo=UTC)

Node = dict[str, Any]


def dependencies(run: TaskRun) -> list[dict[str, Any]]:
    """The task runs whose results went into one, each once."""
    found: dict[str, dict[str, Any]] = {}
    for inputs in run.task_inputs.values():
        for item in inputs:
            if isinstance(item, dict) and item.get("input_type") == "task_run" and item.get("id"):
                found.setdefault(str(item["id"]), {"input_type": "task_run", "id": item["id"]})
    return list(found.values())


def input_ids(run: TaskRun) -> tuple[list[str], list[str]]:
    """The ids in a task run's inputs: those of its parents, and those it is encapsulated by."""
    parents: dict[str, None] = {}
    around: dict[str, None] = {}
    for name, inputs in run.task_inputs.items():
        for item in inputs:
            if isinstance(item, dict) and (key := item.get("id")):
                (around if name == ENCAPSULATING else parents)[str(key)] = None
    return list(parents), list(around)


def graph(run_id: UUID, since: datetime | None = None) -> dict[str, Any]:
    """The graph of a flow run, from `since` on; a fixed number of queries. Raises Missing, and BadRequest when too large."""
    run = FlowRun.objects.filter(pk=run_id).only("start_time", "expected_start_time", "end_time").first()
    if run is None:
        raise Missing(f"Flow run with id {run_id} not found")
    tasks = task_runs_of(run_id, since)
    if len(tasks) > settings.GRAPH_MAX_NODES:
        raise BadRequest(f"The graph of flow run {run_id} has more than {settings.GRAPH_MAX_NODES} nodes.")
    subflows = {
        sub.parent_task_run_id: sub
        for sub in FlowRun.objects.filter(parent_task_run__flow_run=run_id)
        .select_related("flow")
        .only("name", "flow__name", "state_type", "start_time", "expected_start_time", "end_time", "parent_task_run_id")
    }
    own, by_task = artifacts_of(run_id)
    nodes = {task.pk: node(task, subflows.get(task.pk), by_task.get(task.pk, [])) for task in tasks}
    tie(tasks, nodes)
    ordered = sorted(nodes.values(), key=lambda item: (item["start_time"], item["end_time"] or LATEST))
    return {
        "start_time": run.start_time or run.expected_start_time,
        "end_time": run.end_time,
        "root_node_ids": [item["id"] for item in ordered if not item["parents"]],
        "nodes": [[item["id"], item] for item in ordered],
        "artifacts": own,
        "states": list(FlowRunState.objects.filter(run=run_id).order_by("timestamp").values("id", "timestamp", "type", "name")),
    }


def task_runs_of(run_id: UUID, since: datetime | None) -> list[TaskRun]:
    """The task runs that are nodes, one more than is allowed at most."""
    rows = (
        TaskRun.objects.filter(flow_run=run_id)
        .annotate(begun=Coalesce("start_time", "expected_start_time"))
        .filter(begun__isnull=False)
    )
    if since is not None:
        rows = rows.filter(Q(end_time__isnull=True) | Q(end_time__gte=since))
    columns = ("name", "state_type", "start_time", "expected_start_time", "end_time", "task_inputs")
    return list(rows.only(*columns).order_by("begun", F("end_time").asc(nulls_last=True), "pk")[: settings.GRAPH_MAX_NODES + 1])


def node(task: TaskRun, subflow: FlowRun | None, artifacts: list[Node]) -> Node:
    shown: Any = subflow or task
    end = shown.end_time
    if end is None and subflow is None and task.state_type == "COMPLETED":
        end = task.expected_start_time
    return {
        "kind": "flow-run" if subflow else "task-run",
        "id": shown.pk,
        "label": f"{subflow.flow.name} / {subflow.name}" if subflow else task.name,
        "state_type": shown.state_type,
        "start_time": shown.start_time or shown.expected_start_time,
        "end_time": end,
        "parents": [],
        "children": [],
        "encapsulating": [],
        "artifacts": artifacts,
    }


def tie(tasks: list[TaskRun], nodes: dict[UUID, Node]) -> None:
    """Give nodes their edges; what is no node of this graph has none."""
    by_text = {str(key): item for key, item in nodes.items()}
    for task in tasks:
        item = nodes[task.pk]
        parents, around = input_ids(task)
        for key in parents:
            if (parent := by_text.get(key)) is not None:
                item["parents"].append({"id": parent["id"]})
                parent["children"].append({"id": item["id"]})
        item["encapsulating"] = [{"id": by_text[key]["id"]} for key in around if key in by_text]


def artifacts_of(run_id: UUID) -> tuple[list[Node], dict[UUID, list[Node]]]:
    """The artifacts of the run itself, and those of its task runs; oldest first. Results are not shown."""
    rows = Artifact.objects.filter(flow_run_id=run_id, type__isnull=False).exclude(type="result").order_by("created", "pk")
    found = list(rows.only("created", "key", "type", "data", "task_run_id")[: settings.GRAPH_MAX_ARTIFACTS])
    keys = {row.key for row in found if row.key}
    latest = set(LatestArtifact.objects.filter(key__in=keys).values_list("latest_id", flat=True)) if keys else set()
    own: list[Node] = []
    by_task: dict[UUID, list[Node]] = {}
    for row in found:
        shown = {
            "id": row.pk,
            "created": row.created,
            "key": row.key,
            "type": row.type,
            "is_latest": row.key is None or row.pk in latest,
            "data": row.data if row.type == "progress" else None,
        }
        (by_task.setdefault(row.task_run_id, []) if row.task_run_id else own).append(shown)
    return own, by_task

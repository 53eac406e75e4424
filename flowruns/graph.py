"""The nodes and edges of one flow run (contract: runs_states_orchestration.md, sections 2 and 2.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db.models import Q, QuerySet

from flowruns.models import Artifact, FlowRun, FlowRunState, LatestArtifact, TaskRun
from flowruns.orchestration.proposal import iso
from orchestrator.core.errors import BadRequest, Missing
from orchestrator.core.projection import Projection, moment_of

ENCAPSULATING = "__parents__"
LATEST = datetime.max.replace(tzinfo=UTC)

Node = dict[str, Any]
TASK = Projection(
    TaskRun,
    {name: name for name in ("id", "name", "state_type", "start_time", "expected_start_time", "end_time", "task_inputs")},
)


def dependencies(run: TaskRun) -> list[dict[str, Any]]:
    """The task runs whose results went into one, each once."""
    found: dict[str, dict[str, Any]] = {}
    for inputs in run.task_inputs.values():
        for item in inputs:
            if isinstance(item, dict) and item.get("input_type") == "task_run" and item.get("id"):
                found.setdefault(str(item["id"]), {"input_type": "task_run", "id": item["id"]})
    return list(found.values())


def input_ids(given: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The ids in a task run's inputs: those of its parents, and those it is encapsulated by."""
    parents: dict[str, None] = {}
    around: dict[str, None] = {}
    for name, inputs in given.items():
        for item in inputs:
            if isinstance(item, dict) and (key := item.get("id")):
                (around if name == ENCAPSULATING else parents)[str(key)] = None
    return list(parents), list(around)


def graph(run_id: UUID, since: datetime | None = None) -> dict[str, Any]:
    """The graph of a flow run, from `since` on; a fixed number of queries. Raises Missing, and BadRequest when too large."""
    run = FlowRun.objects.filter(pk=run_id).only("start_time", "expected_start_time", "end_time").first()
    if run is None:
        raise Missing(f"Flow run with id {run_id} not found")
    tasks = TASK.many(task_runs_of(run_id, since))
    if len(tasks) > settings.GRAPH_MAX_NODES:
        raise BadRequest(f"The graph of flow run {run_id} has more than {settings.GRAPH_MAX_NODES} nodes.")
    subflows = subflows_of(run_id)
    own, by_task = artifacts_of(run_id)
    nodes = {task["id"]: node(task, subflows.get(task["id"]), by_task.get(task["id"], [])) for task in tasks}
    # All inputs are parsed in one go: a page of them is one JSON text.
    inputs = orjson.loads(orjson.dumps([task["task_inputs"] for task in tasks]))
    tie(list(zip([task["id"] for task in tasks], inputs, strict=True)), nodes)
    ordered = sorted(nodes.values(), key=lambda item: (moment_of(item["start_time"]), moment_of(item["end_time"]) or LATEST))
    return {
        "start_time": run.start_time or run.expected_start_time,
        "end_time": run.end_time,
        "root_node_ids": [item["id"] for item in ordered if not item["parents"]],
        "nodes": [[item["id"], item] for item in ordered],
        "artifacts": own,
        "states": list(FlowRunState.objects.filter(run=run_id).order_by("timestamp").values("id", "timestamp", "type", "name")),
    }


def task_runs_of(run_id: UUID, since: datetime | None) -> QuerySet[TaskRun]:
    """The task runs that are nodes, one more than is allowed at most."""
    rows = TaskRun.objects.filter(Q(start_time__isnull=False) | Q(expected_start_time__isnull=False), flow_run=run_id)
    if since is not None:
        rows = rows.filter(Q(end_time__isnull=True) | Q(end_time__gte=since))
    return rows.order_by("expected_start_time", "pk")[: settings.GRAPH_MAX_NODES + 1]


def subflows_of(run_id: UUID) -> dict[str, Node]:
    """The subflow runs of a flow run, by the task run that stands for each."""
    columns = ("pk", "parent_task_run_id", "name", "flow__name", "state_type", "start_time", "expected_start_time", "end_time")
    found = {}
    for row in FlowRun.objects.filter(parent_task_run__flow_run=run_id).values(*columns):
        times = {name: row[name] and iso(row[name]) for name in ("start_time", "expected_start_time", "end_time")}
        label = f"{row['flow__name']} / {row['name']}"
        found[str(row["parent_task_run_id"])] = {"id": str(row["pk"]), "name": label, "state_type": row["state_type"], **times}
    return found


def node(task: Node, subflow: Node | None, artifacts: list[Node]) -> Node:
    shown = subflow or task
    end = shown["end_time"]
    if end is None and subflow is None and task["state_type"] == "COMPLETED":
        end = task["expected_start_time"]
    return {
        "kind": "flow-run" if subflow else "task-run",
        "id": shown["id"],
        "label": shown["name"],
        "state_type": shown["state_type"],
        "start_time": shown["start_time"] or shown["expected_start_time"],
        "end_time": end,
        "parents": [],
        "children": [],
        "encapsulating": [],
        "artifacts": artifacts,
    }


def tie(tasks: list[tuple[str, dict[str, Any]]], nodes: dict[str, Node]) -> None:
    """Give nodes their edges; what is no node of this graph has none."""
    for key, given in tasks:
        item = nodes[key]
        parents, around = input_ids(given)
        for above in parents:
            if (parent := nodes.get(above)) is not None:
                item["parents"].append({"id": parent["id"]})
                parent["children"].append({"id": item["id"]})
        item["encapsulating"] = [{"id": nodes[above]["id"]} for above in around if above in nodes]


def artifacts_of(run_id: UUID) -> tuple[list[Node], dict[str, list[Node]]]:
    """The artifacts of the run itself, and those of its task runs; oldest first. Results are not shown."""
    rows = Artifact.objects.filter(flow_run_id=run_id, type__isnull=False).exclude(type="result").order_by("created", "pk")
    found = list(rows.only("created", "key", "type", "data", "task_run_id")[: settings.GRAPH_MAX_ARTIFACTS])
    keys = {row.key for row in found if row.key}
    latest = set(LatestArtifact.objects.filter(key__in=keys).values_list("latest_id", flat=True)) if keys else set()
    own: list[Node] = []
    by_task: dict[str, list[Node]] = {}
    for row in found:
        shown = {
            "id": row.pk,
            "created": row.created,
            "key": row.key,
            "type": row.type,
            "is_latest": row.key is None or row.pk in latest,
            "data": row.data if row.type == "progress" else None,
        }
        (by_task.setdefault(str(row.task_run_id), []) if row.task_run_id else own).append(shown)
    return own, by_task

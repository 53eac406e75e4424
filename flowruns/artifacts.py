"""Artifacts, and the newest of each key (contract: logs_artifacts_misc.md, section 2). Each in the caller's transaction."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone

from flowruns.models import Artifact, LatestArtifact

MAX_METADATA = 500
REPEATED = ("type", "description", "data", "metadata", "flow_run_id", "task_run_id")


def shortened(metadata: dict[str, str] | None) -> dict[str, str] | None:
    """Metadata with long values cut: a page of artifacts is not for reading them."""
    if metadata is None:
        return None
    return {k: v if len(v) <= MAX_METADATA else v[:MAX_METADATA] + "..." for k, v in metadata.items()}


def create(values: dict[str, Any]) -> Artifact:
    """An artifact with these columns; with a key it is the latest of it."""
    now = timezone.now()
    artifact = Artifact(created=now, updated=now, **values)
    artifact.save(force_insert=True)
    if artifact.key:
        become_latest(artifact, given=set(values))
    return artifact


def become_latest(artifact: Artifact, given: set[str]) -> None:
    """Overwrite the latest row of the key with what was given; the row stays, so that its id does."""
    now = timezone.now()
    told = {name: getattr(artifact, name) for name in REPEATED}
    assert artifact.key is not None
    row = LatestArtifact(key=artifact.key, latest=artifact, created=now, updated=now, **told)
    # Two runs may make the first artifact of a key at the same instant: the constraint decides, and both are content.
    LatestArtifact.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["key"],
        update_fields=["latest", "updated", *(name for name in REPEATED if name in given)],
    )


def change(key: UUID, values: dict[str, Any]) -> bool:
    """Write these columns to an artifact, and to the latest row if it is that; False for an unknown one."""
    changes = values | {"updated": timezone.now()}
    if not Artifact.objects.filter(pk=key).update(**changes):
        return False
    LatestArtifact.objects.filter(latest=key).update(**changes)
    return True


def delete(key: UUID) -> bool:
    """Delete an artifact; the one before it becomes the latest of its key. False for an unknown one."""
    artifact = Artifact.objects.filter(pk=key).first()
    if artifact is None:
        return False
    row = LatestArtifact.objects.select_for_update().filter(key=artifact.key).first() if artifact.key else None
    Artifact.objects.filter(pk=key).delete()
    if row is None or row.latest_id != key:
        return True
    before = Artifact.objects.filter(key=artifact.key).order_by("-created", "-pk").first()
    if before is None:
        row.delete()
        return True
    LatestArtifact.objects.filter(pk=row.pk).update(
        latest=before,
        created=before.created,
        updated=before.updated,
        **{name: getattr(before, name) for name in REPEATED},
    )
    return True


def of_result(data: Any, flow_run_id: UUID | None, task_run_id: UUID | None) -> None:
    """Keep the description of a state's result as an artifact (runs_states_orchestration.md, section 1.1)."""
    values: dict[str, Any] = {"data": data, "flow_run_id": flow_run_id, "task_run_id": task_run_id}
    if isinstance(data, dict):
        named = {name: data.get(f"artifact_{name}") for name in ("key", "type", "description")}
        values |= {name: value for name, value in named.items() if isinstance(value, str)}
        values["data"] = {k: v for k, v in data.items() if k not in {"artifact_key", "artifact_type", "artifact_description"}}
    create(values)

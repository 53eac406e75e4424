"""From schedules to runs: claim what is due, think without locks, insert in sets. `docs/scheduling.md` says why.

A run exists once per schedule identity and fire time, by a constraint of the database. A deployment's `schedule_revision`
rises whenever planned runs go wrong (redeploy, pause, delete); runs planned from an older revision are not inserted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Count
from django.utils import timezone

from deployments.models import Deployment, DeploymentSchedule
from deployments.schedule_shapes import identity
from deployments.timetable import MAX_CANDIDATES, Horizon, ScheduleError, parse
from flowruns.models import FlowRun, FlowRunState
from flowruns.orchestration.proposal import full_details, iso
from flowruns.removal import delete_rows
from orchestrator.core import json_body
from orchestrator.core.databases import in_one_transaction, is_postgresql, rows_of_json, written
from orchestrator.core.errors import NotFound, Unprocessable
from orchestrator.core.identifiers import random_names, time_ordered_texts

log = logging.getLogger(__name__)

# A claimed schedule is due again after this time, should its scheduler die before it has planned.
CLAIM = timedelta(seconds=30)
NEVER = "no occurrence: this schedule has no further time"
EQUAL = "equal to another schedule of this deployment: one run is made for both"
KINDS = {"interval": "IntervalSchedule", "cron": "CronSchedule", "rrule": "RRuleSchedule"}


def schedule_identity(deployment_id: UUID, schedule: Mapping[str, Any], parameters: Mapping[str, Any], slug: str | None) -> UUID:
    """The digest that names a schedule of a deployment across redeploys."""
    return uuid5(deployment_id, identity(schedule, parameters, slug))


def lock(deployment_id: UUID) -> Deployment:
    """The deployment, locked until the transaction ends. Raises NotFound."""
    deployment = Deployment.objects.select_for_update().filter(pk=deployment_id).first()
    if deployment is None:
        raise NotFound("Deployment not found")
    return deployment


def invalidate(deployment: Deployment) -> None:
    """Make plans from before this moment worthless, and the schedules due: the scheduler wakes after commit."""
    deployment.schedule_revision += 1
    Deployment.objects.filter(pk=deployment.pk).update(schedule_revision=deployment.schedule_revision)
    DeploymentSchedule.objects.filter(deployment=deployment).update(refill_at=timezone.now(), error="")


def purge(deployment_id: UUID, *, past_due: bool = False, manual_too: bool = False) -> int:
    """Delete the deployment's runs that nobody has begun: future ones of its schedules, unless more is asked for.

    Two statements, three on PostgreSQL. Call it with the deployment locked and invalidated, so that no scheduler adds
    to them.
    """
    runs = FlowRun.objects.filter(deployment=deployment_id).unstarted()
    if not manual_too:
        runs = runs.made_by_schedule()
    if not past_due:
        runs = runs.filter(next_scheduled_start_time__gt=timezone.now())
    if is_postgresql():
        # A worker may be taking one of them at this instant; what is still unbegun once locked goes, with its states.
        runs = FlowRun.objects.filter(pk__in=list(runs.select_for_update().values_list("pk", flat=True)))
    delete_rows(FlowRunState.objects.filter(run__in=runs))
    return delete_rows(runs)


@dataclass(frozen=True)
class Source:
    """A schedule as a scheduler planned from it."""

    id: UUID
    deployment_id: UUID
    revision: int
    schedule: dict[str, Any]
    parameters: dict[str, Any]
    slug: str | None
    identity: UUID
    flow_id: UUID
    deployment_parameters: dict[str, Any]
    tags: list[str]
    labels: dict[str, Any]
    # The watermark that the claim wrote: once it is another, somebody else has planned. None for a plan on demand.
    claimed_until: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What one schedule shall get: its times, when to plan again, and what is wrong with it."""

    source: Source
    dates: Sequence[datetime] = ()
    refill_at: datetime | None = None
    error: str = ""


@dataclass
class PassReport:
    """What a pass did. `more` says that further schedules are due."""

    schedules: int = 0
    inserted: int = 0
    quarantined: int = 0
    more: bool = False


def default_horizon() -> Horizon:
    return Horizon(
        settings.SCHEDULER_MIN_RUNS,
        settings.SCHEDULER_MAX_RUNS,
        settings.SCHEDULER_MIN_SCHEDULED_TIME,
        settings.SCHEDULER_MAX_SCHEDULED_TIME,
    )


SOURCE_COLUMNS = (
    "id",
    "deployment_id",
    "deployment__schedule_revision",
    "schedule",
    "parameters",
    "slug",
    "identity",
    "deployment__flow_id",
    "deployment__parameters",
    "deployment__tags",
    "deployment__labels",
)


def run_once(now: datetime | None = None, batch: int | None = None) -> PassReport:
    """One pass: plan what is due, at most `batch` schedules. One read when nothing is due."""
    now = now or timezone.now()
    batch = batch or settings.SCHEDULER_BATCH_SIZE
    due = DeploymentSchedule.objects.filter(active=True, refill_at__lte=now, deployment__paused=False)
    if not due.exists():
        return PassReport()
    sources = in_one_transaction(lambda: claim(now, batch))
    plans = [plan(source, now) for source in sources]
    inserted, refused = commit_or_each(plans) if plans else (0, 0)
    return PassReport(
        schedules=len(plans),
        inserted=inserted,
        quarantined=refused + sum(1 for item in plans if item.error),
        more=len(plans) == batch,
    )


def claim(now: datetime, batch: int) -> list[Source]:
    """Take the schedules that are due longest, past those another scheduler has in hand."""
    due = (
        DeploymentSchedule.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(active=True, refill_at__lte=now, deployment__paused=False)
        .order_by("refill_at")
        .values_list(*SOURCE_COLUMNS)[:batch]
    )
    sources = [replace(Source(*columns), claimed_until=now + CLAIM) for columns in due]
    DeploymentSchedule.objects.filter(pk__in=[source.id for source in sources]).update(refill_at=now + CLAIM)
    return sources


def plan(source: Source, now: datetime, horizon: Horizon | None = None) -> Plan:
    """The times of one schedule. One that raises is put aside with its error and never stops the others."""
    try:
        planned = (horizon or default_horizon()).of(parse(source.schedule), now)
    except ScheduleError as error:
        log.warning("Schedule %s is put aside: %s", source.id, error)
        return Plan(source, error=str(error)[:1000])
    except Exception as error:
        log.exception("Schedule %s is put aside", source.id)
        return Plan(source, error=f"{type(error).__name__}: {error}"[:1000])
    if not planned.dates and planned.refill_at is None:
        return Plan(source, error=NEVER)
    return Plan(source, planned.dates, planned.refill_at)


def commit_or_each(plans: Sequence[Plan]) -> tuple[int, int]:
    """Commit the plans together; where the database refuses, one by one, so that only the refused one is put aside.

    How many runs were new, and how many schedules were put aside.
    """
    try:
        return in_one_transaction(lambda: commit(plans)), 0
    except (OperationalError, InterfaceError):
        raise  # the database is away or busy: no schedule's fault
    except Exception as error:
        if len(plans) > 1:
            each = [commit_or_each([item]) for item in plans]
            return sum(inserted for inserted, _ in each), sum(refused for _, refused in each)
        log.exception("Schedule %s is put aside: its runs cannot be written", plans[0].source.id)
        # In ASCII: what the database refused may be in the message.
        refused = Plan(plans[0].source, error=ascii(error)[:1000])
        in_one_transaction(lambda: commit([refused]))
        return 0, 1


def commit(plans: Sequence[Plan]) -> int:
    """Insert the runs of plans that still hold, and set the watermarks; how many runs were new.

    A fixed number of statements. The deployments are locked in key order, so that neither a redeploy nor another
    scheduler comes between the look and the insert.
    """
    keys = sorted({item.source.deployment_id for item in plans})
    locked = Deployment.objects.filter(pk__in=keys, paused=False).order_by("pk").select_for_update()
    revisions = dict(locked.values_list("pk", "schedule_revision"))
    marks = dict(DeploymentSchedule.objects.filter(pk__in=[p.source.id for p in plans]).values_list("pk", "refill_at"))
    now = timezone.now()
    held = [
        still_ahead(item, now)
        for item in plans
        if revisions.get(item.source.deployment_id) == item.source.revision
        and marks.get(item.source.id) == item.source.claimed_until
    ]
    if not held:
        return 0
    inserted = insert(held)
    set_watermarks(held)
    return inserted


def still_ahead(item: Plan, now: datetime) -> Plan:
    """The plan without the times that passed while its scheduler stood still for longer than its claim."""
    if item.source.claimed_until is None or now <= item.source.claimed_until:
        return item
    return replace(item, dates=[moment for moment in item.dates if moment >= now])


def insert(plans: Iterable[Plan]) -> int:
    """Insert runs that do not exist yet, with their states; how many were new. Three statements, however many runs."""
    plans = without_taken([item for item in plans if item.dates])
    if not plans:
        return 0
    sources = [[number, *source_row(item.source)] for number, item in enumerate(plans)]
    runs = [row for number, item in enumerate(plans) for row in run_rows(number, item)]
    now = written(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(insert_runs_sql(), [json_text(sources), now, now, now, json_text(runs)])
        new = {str(key).replace("-", "") for (key,) in cursor.fetchall()}
        moments = (moment for item in plans for moment in item.dates)
        made = zip(runs, moments, strict=True)
        states = state_rows((run, moment) for run, moment in made if run[1].replace("-", "") in new)
        if states:
            cursor.execute(insert_states_sql(), [now, json_text(states)])
    return len(new)


def without_taken(plans: Sequence[Plan]) -> list[Plan]:
    """The plans without the times that have their run already; those that keep any. One statement.

    This only saves work: what another scheduler inserts meanwhile is kept out by the constraint.
    """
    if not plans:
        return []
    spans = [[i, str(p.source.identity), written(min(p.dates)), written(max(p.dates))] for i, p in enumerate(plans)]
    span = rows_of_json({"number": "int", "identity": "uuid", "begin": "timestamptz", "finish": "timestamptz"}, "span")
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT span.number, run.expected_start_time FROM {span} JOIN flowruns_flowrun run "  # noqa: S608
            "ON run.schedule_identity = span.identity AND run.expected_start_time BETWEEN span.begin AND span.finish",
            [json_text(spans)],
        )
        taken = {(number, aware(at)) for number, at in cursor.fetchall()}
    if not taken:
        return list(plans)
    left = [replace(p, dates=[at for at in p.dates if (i, at) not in taken]) for i, p in enumerate(plans)]
    return [item for item in left if item.dates]


def json_text(rows: list[list[Any]]) -> str:
    return json_body.dump(rows).decode()


def source_row(source: Source) -> list[Any]:
    """What all runs of a schedule share, as JSON text where the column holds JSON."""
    kind = next(name for key, name in KINDS.items() if key in source.schedule)
    system = {"prefect.flow.id": str(source.flow_id), "prefect.deployment.id": str(source.deployment_id)}
    documents: tuple[Any, ...] = (
        {**source.deployment_parameters, **source.parameters},
        ["auto-scheduled", *source.tags],
        {**source.labels, **system},
        {"id": str(source.id), "type": "SCHEDULE", "display_value": source.slug or kind},
        POLICY,
    )
    texts = [json_body.dump(document).decode() for document in documents]
    return [str(source.deployment_id), source.revision, str(source.identity), *texts]


def run_rows(number: int, item: Plan) -> list[list[Any]]:
    """What differs from run to run of one plan, whose source is this number."""
    key = f"scheduled {item.source.deployment_id} {item.source.id} "
    ids, state_ids, names = (make(len(item.dates)) for make in (time_ordered_texts, time_ordered_texts, random_names))
    return [
        [number, *of_run, f"{key}{moment}", written(moment)]
        for *of_run, moment in zip(ids, state_ids, names, item.dates, strict=True)
    ]


def state_rows(scheduled: Iterable[tuple[Sequence[Any], datetime]]) -> list[list[Any]]:
    """The first states of runs, each with the time it is scheduled for."""
    marked = json_body.dump(full_details({"scheduled_time": "@time", "flow_run_id": "@run"})).decode()
    return [
        [state_id, run_id, marked.replace("@time", iso(moment), 1).replace("@run", run_id, 1)]
        for (_, run_id, state_id, *_), moment in scheduled
    ]


# The policy of a run that nobody said anything about (runs_states_orchestration.md, section 1.2).
POLICY: dict[str, Any] = {
    "max_retries": 0,
    "retry_delay_seconds": 0.0,
    "retries": None,
    "retry_delay": None,
    "pause_keys": [],
    "resuming": False,
    "retry_type": None,
}


def insert_runs_sql() -> str:
    """Runs from (sources, runs); the deployment lends its columns, and its revision must be the planned one.

    Sources are materialized: SQLite then finds each by an index of its own, and does not read all of them for every run.
    """
    runs = {"number": "int", "id": "uuid", "state_id": "uuid", "name": "text", "key": "text", "at": "timestamptz"}
    sources = {"number": "int", "deployment_id": "uuid", "revision": "bigint", "identity": "uuid"}
    sources |= dict.fromkeys(("parameters", "tags", "labels", "created_by", "policy"), "jsonb")
    given = rows_of_json(runs, "given")
    source = rows_of_json(sources, "listed")
    empty = "'{}'::jsonb" if is_postgresql() else "'{}'"
    yes = "TRUE" if is_postgresql() else "1"
    return f"""
        WITH source AS MATERIALIZED (SELECT * FROM {source})
        INSERT INTO flowruns_flowrun (
            id, created, updated, name, flow_id, state_id, deployment_id, deployment_version, work_queue_id,
            work_queue_name, parameters, idempotency_key, context, empirical_policy, tags, labels, state_type,
            state_name, state_timestamp, run_count, expected_start_time, next_scheduled_start_time, total_run_seconds,
            auto_scheduled, schedule_identity, infrastructure_document_id, job_variables, created_by
        )
        SELECT given.id, %s, %s, given.name, d.flow_id, given.state_id, d.id, d.version, d.work_queue_id,
            d.work_queue_name, source.parameters, given.key, {empty}, source.policy, source.tags, source.labels,
            'SCHEDULED', 'Scheduled', %s, 0, given.at, given.at, 0, {yes}, source.identity,
            d.infrastructure_document_id, {empty}, source.created_by
        FROM {given}
        JOIN source ON source.number = given.number
        JOIN deployments_deployment d ON d.id = source.deployment_id AND d.schedule_revision = source.revision
        WHERE 1 = 1
        ON CONFLICT DO NOTHING
        RETURNING id
    """  # noqa: S608


def insert_states_sql() -> str:
    given = rows_of_json({"id": "uuid", "run_id": "uuid", "details": "jsonb"}, "given")
    return f"""
        INSERT INTO flowruns_flowrunstate (id, run_id, type, name, timestamp, message, details)
        SELECT given.id, given.run_id, 'SCHEDULED', 'Scheduled', %s, 'Flow run scheduled', given.details FROM {given}
    """  # noqa: S608


def set_watermarks(plans: Sequence[Plan]) -> None:
    """When each schedule is due again, and what is wrong with it. One statement."""
    given = rows_of_json({"id": "uuid", "refill_at": "timestamptz", "error": "text"}, "given")
    notes = dict.fromkeys(equal_twins(plans), EQUAL)
    rows = [
        [
            str(item.source.id),
            item.refill_at and written(item.refill_at),
            item.error or notes.get(item.source.identity, ""),
        ]
        for item in plans
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE deployments_deploymentschedule SET refill_at = given.refill_at, error = given.error FROM {given} "  # noqa: S608
            "WHERE deployments_deploymentschedule.id = given.id",
            [json_text(rows)],
        )


def equal_twins(plans: Sequence[Plan]) -> list[UUID]:
    """Identities that several active schedules share, being equal in everything: together they make one run per time."""
    owners = {item.source.deployment_id for item in plans}
    active = DeploymentSchedule.objects.filter(deployment__in=owners, active=True).order_by()
    shared = active.values("identity").annotate(schedules=Count("pk")).filter(schedules__gt=1)
    return list(shared.values_list("identity", flat=True))


def aware(moment: datetime | None) -> datetime | None:
    """A time without a zone is meant in UTC."""
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def schedule_range(
    deployment_id: UUID,
    start: datetime | None = None,
    end: datetime | None = None,
    min_time: timedelta | None = None,
    min_runs: int | None = None,
    max_runs: int | None = None,
) -> int:
    """Insert the runs of every active schedule in a span of time; how many were new (`POST /deployments/{id}/schedule`).

    What is not given is the scheduler's default; at most 1,000 times a schedule. An unknown deployment has none.
    """
    begin = aware(start) or timezone.now()
    standard = default_horizon()
    horizon = Horizon(
        standard.min_runs if min_runs is None else max(min_runs, 0),
        min(standard.max_runs if max_runs is None else max_runs, MAX_CANDIDATES),
        standard.min_time if min_time is None else min_time,
        standard.max_time,
    )
    schedules = DeploymentSchedule.objects.filter(deployment=deployment_id, active=True)
    sources = [Source(*columns) for columns in schedules.values_list(*SOURCE_COLUMNS)]
    plans = [planned_range(source, horizon, begin, aware(end)) for source in sources]
    return in_one_transaction(lambda: insert_locked(plans))


def planned_range(source: Source, horizon: Horizon, start: datetime, end: datetime | None) -> Plan:
    try:
        return Plan(source, horizon.of(parse(source.schedule), start, end).dates)
    except (ScheduleError, OverflowError) as error:
        raise Unprocessable(f"The schedule cannot be planned: {error}") from None


def insert_locked(plans: Sequence[Plan]) -> int:
    keys = sorted({item.source.deployment_id for item in plans})
    list(Deployment.objects.filter(pk__in=keys).order_by("pk").select_for_update().values_list("pk"))
    return insert(plans)

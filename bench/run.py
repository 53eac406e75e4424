"""The bench: `python -m bench [--database …] [--only …] [--rounds N] [--quick]`."""

from __future__ import annotations

import argparse
import http.client
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import alone, records, report
from bench.measure import BadAnswer, wait_until_quiet
from bench.operations import SCENARIOS as REQUESTS
from bench.operations import Effort, Read, Scenario, Stage
from bench.report import Figure, Progress, Row
from bench.servers import OURS, REFERENCE, Ground, Kind, Server, ServerFailed, Store, ground
from bench.stores import Size, World, fill, moment

SCENARIOS: tuple[Read | Scenario, ...] = (*REQUESTS, *records.SCENARIOS)
SIZE = Size(deployments=1_000, runs=50_000, due=10_000)
EFFORT = Effort(read_seconds=1.2, writes=20, bulk=2)
QUICK_EFFORT = Effort(read_seconds=0.35, writes=6, bulk=1)
ALONE = ("scheduler", "footprint", "crowd", "growth")


@dataclass(frozen=True)
class Options:
    databases: tuple[str, ...]
    only: re.Pattern[str] | None
    rounds: int
    quick: bool
    sides: tuple[Kind, ...]
    write: bool

    def wants(self, key: str) -> bool:
        return self.only is None or bool(self.only.search(key))

    @property
    def effort(self) -> Effort:
        return QUICK_EFFORT if self.quick else EFFORT

    @property
    def scale(self) -> alone.Scale:
        return alone.QUICK if self.quick else alone.Scale()

    @property
    def scenarios(self) -> list[Read | Scenario]:
        return [found for found in SCENARIOS if any(self.wants(operation.key) for operation in found.operations)]


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), help="default both; quick: sqlite")
    parser.add_argument("--only", metavar="PATTERN", help="regular expression over the keys of operations and figures")
    parser.add_argument("--rounds", type=int, help="rounds of each operation on each server (default 3; quick 1)")
    parser.add_argument("--quick", action="store_true", help="short rounds and small stores for ours alone")
    parser.add_argument("--side", choices=("both", "ours", "reference"), default="both", help="measure one server only")
    parser.add_argument("--write", action="store_true", help="write the page even when quick or incomplete")
    parser.add_argument("--list", action="store_true", help="list the keys and end")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join([operation.key for found in SCENARIOS for operation in found.operations] + list(ALONE)))
        sys.exit()
    sides = {"both": (REFERENCE, OURS), "ours": (OURS,), "reference": (REFERENCE,)}[given.side]
    database = given.database or ("sqlite" if given.quick else "both")
    return Options(
        databases=("sqlite", "postgresql") if database == "both" else (database,),
        only=re.compile(given.only) if given.only else None,
        rounds=given.rounds or (1 if given.quick else 3),
        quick=given.quick,
        sides=sides,
        write=given.write or not (given.quick or given.only or given.side != "both"),
    )


FAILURES = (BadAnswer, ServerFailed, OSError, http.client.HTTPException)


def _play(scenario: Read | Scenario, rows: dict[str, Row], server: Server, stage: Stage) -> None:
    """One round on one server. A refusal is noted in the rows, and the scenario is left for this server."""
    try:
        scenario.play(stage)
    except FAILURES as error:
        for operation in scenario.operations:
            if operation.key not in stage.samples:
                rows[operation.key].failures[server.side] = f"{type(error).__name__}: {error}"
    for key, found in stage.samples.items():
        rows[key].side(server.side).append(found)
    if stage.client.refusals:
        rows[scenario.operations[0].key].refusals[server.side] += stage.client.refusals
    for key, size in stage.sizes.items():
        rows[key].sizes[server.side] = size


def _compare(options: Options, servers: Sequence[Server], world: World, say: Progress) -> list[Row]:
    rows = {operation.key: Row(operation) for found in options.scenarios for operation in found.operations}
    for scenario in options.scenarios:
        for round in range(options.rounds):
            for server in servers:
                failed = any(server.side in rows[operation.key].failures for operation in scenario.operations)
                if failed:
                    continue
                say(f"{scenario.operations[0].label}: {server.side}, round {round + 1} of {options.rounds}")
                effort = options.effort.on(server.side)
                stage = Stage(server.client(), server.clock, world, effort, round)
                _play(scenario, rows, server, stage)
                stage.client.connection.close()
    return list(rows.values())


def _filled(kind: Kind, ground: Ground, world: World, say: Progress) -> Store:
    say(f"filling the store of {kind.side}")
    store = ground.store(kind.side)
    fill(kind.side, store, world)
    return store


def _alone(options: Options, ground: Ground, world_of: Callable[[Size], World], say: Progress) -> Iterator[Figure]:
    measured = {"scheduler": alone.scheduler, "footprint": alone.footprint, "growth": alone.growth}
    for name, figures in measured.items():
        if not options.wants(name):
            continue
        try:
            yield from figures(ground, world_of, options.scale, say)
        except FAILURES as error:
            yield Figure(name, f"failed: {str(error)[-200:]}".replace("\n", " "), "–", met=False)


def measure(database: str, options: Options, say: Progress) -> tuple[list[Row], list[Figure]]:
    """All that is asked for, on one database."""
    now = moment()
    world = World(SIZE, now)
    figures: list[Figure] = []
    rows: list[Row] = []
    with ground(database) as place:
        sides = options.sides
        if place.cluster and not place.cluster.has_trigrams and REFERENCE in sides:
            say("this PostgreSQL has no pg_trgm, without which the reference does not start: ours alone")
            sides = tuple(kind for kind in sides if kind is not REFERENCE)
        if options.scenarios or options.wants("crowd"):
            stores = [(kind, _filled(kind, place, world, say)) for kind in sides]
            with ExitStack() as stack:
                say("starting the servers")
                servers = [stack.enter_context(kind.serving(store, place.cluster)) for kind, store in stores]
                for server in servers:
                    wait_until_quiet(server.clock, at_most_seconds=30, step_seconds=1)
                rows = _compare(options, servers, world, say)
                if OURS in sides and options.wants("crowd"):
                    figures += alone.crowd(servers[-1], world, options.scale, say)
        if OURS in sides:
            figures += _alone(options, place, lambda size: World(size, now), say)
    return rows, figures


def _show(database: str, rows: Sequence[Row], figures: Sequence[Figure]) -> None:
    print(f"\n{report.DATABASES[database]}\n")
    if rows:
        print(report.table(report.HEAD, [report.cells(row) for row in rows]), end="\n\n")
    for row in rows:
        for side, failure in row.failures.items():
            print(f"{row.operation.key}: {side} failed: {failure}")
        if row.differs:
            print(f"{row.operation.key}: answers differ: {row.sizes}")
    for figure in figures:
        print(f"{figure.label}: {figure.value} (target {figure.target}: {'met' if figure.met else 'missed'})")


def main() -> None:
    options = parse()
    say = Progress()
    for database in options.databases:
        started = time.monotonic()
        rows, figures = measure(database, options, say)
        say.done()
        _show(database, rows, figures)
        if options.write:
            text = report.section(database, rows, figures, options.rounds, time.monotonic() - started)
            report.write(database, text)


if __name__ == "__main__":
    main()

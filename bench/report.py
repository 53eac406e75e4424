"""Progress on the terminal, tables on paper: `docs/performance.md` between its markers."""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import TICKS, Sample, median_of, percentile
from bench.operations import Operation
from bench.servers import ROOT

PAGE = ROOT / "docs" / "performance.md"
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
INTRODUCTION = """# Performance

Both servers are started on the same machine in the same run, are filled with the same rows and are sent the same bytes,
in turns. `make bench` measures again and rewrites the tables below; `python -m bench --help` lists its options.

- CPU is user and system time of the server's whole process tree, with the connections and background processes of the
  database server on PostgreSQL, and includes what a request leaves to be done after its answer.
- CPU ratio is the reference's CPU over ours: the median over rounds. Wall times are the client's, one client at a time.
- What a server answers with 503 is sent again, as Prefect's client does; the row says how often. A full garbage
  collection or a checkpoint falls into some rounds and not into others: short rows vary by a third from run to run.
- Periodic services are off on both while requests are measured, so that the stores stay as they are.
- The reference is release 3.8.8 with one process, as it starts by default. Both record an event for each change of a run:
  it in the background, this server in the transaction of the change. Both are in the CPU shown.
- `BENCH_REFERENCE_PYTHON` names an interpreter that has the reference installed (else `.bench/reference-venv` is made);
  `BENCH_POSTGRES_BIN` a directory with PostgreSQL's programs. The reference needs the extension pg_trgm there.
"""


@dataclass(frozen=True)
class Figure:
    """Something measured on our server alone."""

    label: str
    value: str
    target: str
    met: bool


@dataclass
class Row:
    """An operation and its rounds on both sides, in the order of the rounds."""

    operation: Operation
    reference: list[Sample] = field(default_factory=list)
    ours: list[Sample] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    # Answers 503 by side; the client repeated those requests.
    refusals: Counter[str] = field(default_factory=Counter)

    def side(self, name: str) -> list[Sample]:
        return self.ours if name == "ours" else self.reference

    @property
    def ratio(self) -> float | None:
        """The median over rounds of reference CPU / our CPU; None unless both were measured."""
        pairs = list(zip(self.reference, self.ours, strict=False))
        return median_of(_cpu(theirs) / _cpu(own) for theirs, own in pairs) if pairs else None

    @property
    def differs(self) -> bool:
        return len(set(self.sizes.values())) > 1


def _cpu(sample: Sample) -> float:
    """Never less than one tick for the whole sample: the clock does not see less."""
    return max(sample.cpu_ms, 1000 / TICKS / len(sample.wall_ms))


def _side_cells(samples: Sequence[Sample]) -> list[str]:
    if not samples:
        return ["–", "–", "–"]
    wall = [value for sample in samples for value in sample.wall_ms]
    return [
        _short(median_of(map(_cpu, samples))),
        f"{_short(percentile(wall, 0.5))} / {_short(percentile(wall, 0.95))}",
        _short(median_of(sample.per_second for sample in samples)),
    ]


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


HEAD = ("Operation", "CPU ratio", "Target", "Met", "Reference CPU ms", "p50 / p95 ms", "per s",
        "Our CPU ms", "p50 / p95 ms", "per s")  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    ratio = row.ratio
    met = "–" if ratio is None else "yes" if ratio >= row.operation.target else "no"
    notes = [f"{side} failed" for side in row.failures]
    notes += [f"{side}: {number} x 503" for side, number in row.refusals.items()]
    notes += ["answers differ"] * row.differs
    label = f"{row.operation.label} ({'; '.join(notes)})" if notes else row.operation.label
    shown = "–" if ratio is None else f"{ratio:.1f}x"
    return (label, shown, f"{row.operation.target:g}x", met, *_side_cells(row.reference), *_side_cells(row.ours))


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruled = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join(ruled + ["| " + " | ".join(line) + " |" for line in lines])


def section(database: str, rows: Sequence[Row], figures: Sequence[Figure], rounds: int, seconds: float) -> str:
    """The generated part for one database, markers excluded."""
    where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    parts = [
        f"## {DATABASES[database]}",
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {where}, {rounds} rounds in {seconds / 60:.0f} minutes.",
    ]
    if rows:
        parts.append(markdown(HEAD, map(cells, rows)))
    if figures:
        lines = [(figure.label, figure.value, figure.target, "yes" if figure.met else "no") for figure in figures]
        parts += ["### Ours alone", markdown(("Figure", "Value", "Target", "Met"), lines)]
    return "\n\n".join(parts)


def write(database: str, text: str, page: Path = PAGE) -> None:
    """Put `text` between the markers of `database` in `page`; everything else on the page is kept."""
    begin, end = f"<!-- {database}: generated by make bench -->", f"<!-- {database}: end -->"
    old = page.read_text() if page.exists() else INTRODUCTION
    block = f"{begin}\n\n{text}\n\n{end}"
    if begin in old and end in old:
        before, _, rest = old.partition(begin)
        new = before + block + rest.partition(end)[2]
    else:
        new = f"{old.rstrip()}\n\n{block}\n"
    page.parent.mkdir(exist_ok=True)
    page.write_text(new)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns aligned for a terminal: the first to the left, the others to the right."""
    everything = [head, *lines]
    widths = [max(len(line[i]) for line in everything) for i in range(len(head))]
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in everything)
    return "\n".join("  ".join(line) for line in aligned)


class Progress:
    """What is being done now, on one line of the terminal; plain lines when the output is kept in a file."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.live = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        line = f"[{time.monotonic() - self.started:5.0f} s] {text}"
        if self.live:
            print(f"\r\033[K{line[:118]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def done(self) -> None:
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

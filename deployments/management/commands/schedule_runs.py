"""The scheduler alone: as many copies as you like, on one database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from deployments import scheduling
from deployments.services import Scheduler
from orchestrator.core.loops import run_until_signalled, stopped_by_signal


class Command(BaseCommand):
    help = "Turn schedules into flow runs, for ever or (--once) until nothing is due."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="plan what is due now, say what was done, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["once"]:
            run_until_signalled([Scheduler()])
            return
        stop = stopped_by_signal()
        schedules = inserted = quarantined = 0
        more = True
        while more and not stop.is_set():
            report = scheduling.run_once()
            schedules += report.schedules
            inserted += report.inserted
            quarantined += report.quarantined
            more = report.more
            if self.stdout.isatty():
                self.stdout.write(f"\r{schedules} schedules, {inserted} runs", ending="")
        told = f"{schedules} schedules planned, {inserted} runs inserted, {quarantined} schedules put aside."
        self.stdout.write(told + (" Stopped before all were planned." if more else ""))

"""The background services that settings name, each in a loop of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils.module_loading import import_string

from orchestrator.core.loops import Loop, run_until_signalled


class Command(BaseCommand):
    help = "Run the background services: scheduler, late runs, foreman. Several copies may run at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--until-closed", action="store_true", help="end when standard input closes")

    def handle(self, *args: Any, **options: Any) -> None:
        loops: list[Loop] = [import_string(path)() for path in settings.SERVICES]
        self.stdout.write(f"Running {', '.join(loop.name for loop in loops)}")
        if options["until_closed"]:
            threading.Thread(target=end_with_parent, daemon=True).start()
        run_until_signalled(loops)


def end_with_parent() -> None:
    """Tell this process to stop once whoever started it is gone."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)

"""The background services that settings name, each in a loop of its own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.module_loading import import_string

from orchestrator.core.loops import Loop, run_until_signalled


class Command(BaseCommand):
    help = "Run the background services: scheduler, late runs, foreman and the like. Several copies may run at once."

    def handle(self, *args: Any, **options: Any) -> None:
        loops: list[Loop] = [import_string(path)() for path in settings.SERVICES]
        self.stdout.write(f"Running {', '.join(loop.name for loop in loops)}")
        run_until_signalled(loops)

"""The scheduler as a background loop."""

from __future__ import annotations

from django.conf import settings

from deployments import scheduling
from orchestrator.core.loops import Loop


class Scheduler(Loop):
    """Looks at the watermarks twice a second: one indexed read, so a changed schedule has its runs at once."""

    name = "scheduler"
    interval_seconds = settings.SCHEDULER_WAKE.total_seconds()

    def poll(self) -> float:
        if not settings.SCHEDULER_ENABLED:
            return settings.SCHEDULER_LOOP.total_seconds()
        return 0 if scheduling.run_once().more else self.interval_seconds

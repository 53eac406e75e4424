"""Background loops: poll, sleep until due or told to stop, go on after an error."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable
from typing import ClassVar

from django.db import close_old_connections, connections

log = logging.getLogger(__name__)

LONGEST_BACK_OFF_SECONDS = 60.0


class Loop:
    """One background service. A subclass does one batch in `poll` and says when the next is due."""

    name: ClassVar[str]
    interval_seconds: float = 1.0

    def poll(self) -> float:
        """Do one batch; the seconds until the next (0 when there was more than one batch)."""
        raise NotImplementedError

    def run(self, stop: threading.Event) -> None:
        """Poll until told to stop. An error is logged and the loop goes on, more slowly while errors repeat."""
        failures = 0
        while not stop.is_set():
            close_old_connections()
            try:
                delay = self.poll()
                failures = 0
            except Exception:
                failures += 1
                delay = min(LONGEST_BACK_OFF_SECONDS, self.interval_seconds * 2**failures)
                log.exception("Service %s failed; it goes on in %.1f s", self.name, delay)
            if delay > 0:
                stop.wait(delay)
        connections.close_all()


def stopped_by_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set, in place of ending the process."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def run_until_signalled(loops: Iterable[Loop]) -> None:
    """Run each loop on a thread of its own until SIGTERM or SIGINT, then let each finish its batch."""
    stop = stopped_by_signal()
    threads = [threading.Thread(target=loop.run, args=(stop,), name=loop.name) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

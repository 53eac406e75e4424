"""`python -m bench.passes N`: N scheduler passes in one process; prints their CPU milliseconds each as JSON."""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")

    import django

    django.setup()

    from deployments.services import Scheduler

    scheduler = Scheduler()
    # Connects, and fills what is due.
    scheduler.poll()
    number = int(sys.argv[1])
    before = time.process_time()
    for _ in range(number):
        scheduler.poll()
    print(json.dumps({"cpu_ms": (time.process_time() - before) * 1000 / number}))


if __name__ == "__main__":
    main()

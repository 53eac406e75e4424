"""Everything a small installation needs, under one supervisor: API, admin, scheduler and services."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
LONGEST_PAUSE_SECONDS = 30.0
STOP_SECONDS = 10.0
READY_SECONDS = 30.0


class Services:
    """`manage.py run_services` as a child: started again when it ends, stopped when we stop or die."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.child: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self._watch, name="services", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def _watch(self) -> None:
        pause = 1.0
        while not self.stopping.is_set():
            begun = time.monotonic()
            # The child ends when this pipe closes: so it does when we are killed.
            self.child = subprocess.Popen([sys.executable, "manage.py", "run_services", "--until-closed"],
                                          cwd=settings.BASE_DIR, stdin=subprocess.PIPE)  # fmt: skip
            self.child.wait()
            pause = 1.0 if time.monotonic() - begun > LONGEST_PAUSE_SECONDS else min(pause * 2, LONGEST_PAUSE_SECONDS)
            self.stopping.wait(pause)

    def stop(self) -> None:
        self.stopping.set()
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()


class Command(BaseCommand):
    help = "Serve the API under /api and the admin under /admin, with the scheduler and the services."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=4200)
        parser.add_argument("--workers", type=int, default=1, help="processes that answer requests")
        parser.add_argument("--threads", type=int, default=8, help="threads of each")
        parser.add_argument("--no-services", action="store_true", help="answer requests only")
        parser.add_argument("--log-format", choices=["text", "json"], default=settings.LOG_FORMAT)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["host"] not in LOOPBACK and not settings.API_AUTH_STRING:
            if os.environ.get("ORCHESTRATOR_ALLOW_UNAUTHENTICATED", "").lower() not in {"1", "true", "yes"}:
                raise CommandError(
                    f"Not serving on {options['host']} without authentication: set PREFECT_SERVER_API_AUTH_STRING, "
                    "or ORCHESTRATOR_ALLOW_UNAUTHENTICATED=true if something in front of this server authenticates."
                )
        os.environ["ORCHESTRATOR_LOG_FORMAT"] = options["log_format"]
        if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
            call_command("migrate", verbosity=0)
        connections.close_all()
        services = Services()
        if not options["no_services"]:
            services.start()
        threading.Thread(target=self.announce, args=(options["host"], options["port"]), daemon=True).start()
        try:
            self.answer(options)
        finally:
            services.stop()

    def answer(self, options: dict[str, Any]) -> None:
        """Answer requests until told to stop; Granian restarts a worker that crashes."""
        from granian import Granian
        from granian.constants import Interfaces
        from granian.http import HTTP1Settings

        Granian(
            "orchestrator.wsgi:application",
            address=options["host"],
            port=options["port"],
            interface=Interfaces.WSGI,
            workers=options["workers"],
            blocking_threads=options["threads"],
            http1_settings=HTTP1Settings(keep_alive=True),
            respawn_failed_workers=True,
            workers_kill_timeout=int(STOP_SECONDS),
            log_dictconfig=settings.LOGGING,
            log_access=False,
        ).serve()

    def announce(self, host: str, port: int) -> None:
        """Say where the server is, once it answers."""
        address = f"http://{'[::1]' if host == '::1' else '127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{address}/api/health", timeout=2):  # noqa: S310
                    break
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        self.stdout.write(f"API    {address}/api\nAdmin  {address}/admin/\nDocs   {address}/docs")
        self.stdout.flush()

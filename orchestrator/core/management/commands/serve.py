"""The whole server: HTTP workers and background services, under one supervisor."""

from __future__ import annotations

import fcntl
import gc
import ipaddress
import logging
import os
from argparse import BooleanOptionalAction
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.urls import get_resolver
from django.utils.module_loading import import_string

from orchestrator.core import databases, logs
from orchestrator.server.supervisor import Child, Supervisor
from orchestrator.server.worker import AddressTaken, answers, check_free, serve_http

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
MIGRATION_LOCK = 5_246_117_009_412  # any number that no other lock of this database uses


class Command(BaseCommand):
    help = "Serve the API, the admin and the background services until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=4200, help="port to listen on (default: %(default)s)")
        parser.add_argument("--workers", type=int, help="HTTP processes (default: 1 on SQLite, else one per core up to 4)")
        parser.add_argument("--threads", type=int, help="requests at once per worker (default: 2 on SQLite, else 4)")
        parser.add_argument("--no-services", dest="services", action="store_false", help="HTTP alone")
        parser.add_argument(
            "--migrate",
            action=BooleanOptionalAction,
            help="bring the tables up to date first (default: on SQLite alone)",
        )
        parser.add_argument("--log-format", choices=logs.FORMATS, default=settings.LOG_FORMAT)

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        embedded = not databases.is_postgresql()
        # Threads share one interpreter: each more than what waits for the database only makes the others wait for it.
        threads = (2 if embedded else 4) if options["threads"] is None else options["threads"]
        workers = options["workers"] or (1 if embedded else min(4, os.cpu_count() or 1))
        if workers < 1 or threads < 1:
            raise CommandError("--workers and --threads must be at least 1.")
        guarded = settings.API_AUTH_STRING or settings.API_KEYS_REQUIRED
        if not (is_loopback(host) or guarded or settings.ALLOW_UNAUTHENTICATED):
            raise CommandError(
                f"Not serving on {host} without authentication: set PREFECT_SERVER_API_AUTH_STRING "
                "or ORCHESTRATOR_REQUIRE_API_KEYS=true, or ORCHESTRATOR_ALLOW_UNAUTHENTICATED=true "
                "if something in front of this server authenticates."
            )
        try:
            check_free(host, port)
        except (AddressTaken, OSError, OverflowError) as error:
            raise CommandError(f"Cannot listen on {host}:{port}: {error}") from None
        logs.configure(options["log_format"], settings.LOG_LEVEL)
        os.environ["ORCHESTRATOR_LOG_FORMAT"] = options["log_format"]
        in_a_fork(lambda: prepare_tables(embedded if options["migrate"] is None else options["migrate"]))

        application = get_wsgi_application()
        get_resolver().url_patterns  # noqa: B018 - loaded here once, not in every worker
        finish = import_string(settings.BEFORE_WORKER_ENDS)
        children = [
            Child(f"api-{number}", lambda: serve_http(application, host, port, threads, settings.SOCKETS, finish))
            for number in range(1, workers + 1)
        ]
        if options["services"]:
            children.append(Child("services", lambda: call_command("run_services")))
        children.append(Child("announcement", lambda: self.announce(host, port), once=True))
        # What is loaded now stays shared with the children; the collector would write to it, and copy it.
        gc.collect()
        gc.freeze()
        raise SystemExit(Supervisor(children).run())

    def announce(self, host: str, port: int) -> None:
        if not answers(host, port, within_seconds=READY_SECONDS):
            self.stderr.write(f"The server does not answer on {host}:{port} after {READY_SECONDS:.0f} s.")
            return
        name = f"[{host}]" if ":" in host else host
        site = f"http://{name}:{port}"
        self.stdout.write(f"Ready.\n  API    {site}/api\n  Admin  {site}/admin/\n  Docs   {site}/docs")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_a_fork(work: Callable[[], None]) -> None:
    """Do `work` in a process of its own, so that this one keeps neither its memory nor its connections."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except CommandError as error:
            log.error("%s", error)
        except Exception:
            log.exception("The tables could not be prepared")
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit(1)


def prepare_tables(migrate: bool) -> None:
    """Apply outstanding migrations, or with `migrate` False refuse to go on when there are any."""
    with alone_with_the_tables():
        executor = MigrationExecutor(connection)
        outstanding = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if outstanding and not migrate:
            raise CommandError(
                f"{len(outstanding)} migrations are outstanding: run `manage.py migrate`, or serve with --migrate."
            )
        if outstanding:
            call_command("migrate", interactive=False, verbosity=0)


@contextmanager
def alone_with_the_tables() -> Iterator[None]:
    """Keep other servers that start now from migrating at the same time."""
    if databases.is_postgresql():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])  # given back when the process ends
        yield
        return
    with open(f"{settings.DATABASES['default']['NAME']}.migrating", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""The main job, from nothing: a server, two scheduled flows, and a real worker that runs them.

Everything is kept in `.demo/`, made anew each time. `--exit` stops it all after the first completed runs.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
HOME = ROOT / ".demo"

POOL = "demo"
FLOWS = {"hello.py:hello": timedelta(seconds=10), "etl.py:etl": timedelta(seconds=15)}
RUNS_TO_SEE = 4
PATIENCE_SECONDS = 120.0
START_SECONDS = 60.0


class DemoFailed(Exception):
    """Something did not come up; the message says what, and where its log is."""


def main() -> int:
    options = parsed()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    port = options.port or free_port()
    environment = environment_for(port)
    os.environ.clear()
    os.environ.update(environment)  # before Prefect is imported: it reads its settings then
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            show(port, options, stack)
    except KeyboardInterrupt:
        print("\nStopped.")
    except DemoFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


def show(port: int, options: argparse.Namespace, stack: ExitStack) -> None:
    site = f"http://127.0.0.1:{port}"
    print("Making a database and an operator's account …")
    password = operator()
    server = stack.enter_context(running("server", "manage.py", "serve", "--port", str(port)))
    await_health(server, f"{site}/api/health")
    print("Registering two flows with schedules …")
    register()
    worker = ("worker", "-m", "prefect", "worker", "start", "--type", "process", "--pool", POOL, "--name", "demo-worker")
    stack.enter_context(running(*worker))
    watch()
    print(f"\n  API    {site}/api\n  Admin  {site}/admin/  (user admin, password {password})\n  Docs   {site}/docs")
    print(f"  Logs   {HOME.relative_to(ROOT)}/server.log, {HOME.relative_to(ROOT)}/worker.log")
    if not options.exit:
        print(f"\nIn another shell: export PREFECT_API_URL={site}/api\nCtrl-C stops the server and the worker.")
        server.wait()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="where to serve (default: 4200, or a free port)")
    parser.add_argument("--exit", action="store_true", help="stop everything after the first completed runs")
    return parser.parse_args()


def free_port() -> int:
    """4200 if nobody has it, else any that is free."""
    for wanted in (4200, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
                probe.listen(1)
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    raise DemoFailed("No port is free.")


def environment_for(port: int) -> dict[str, str]:
    """The caller's environment without any setting of either product, and ours."""
    ours = ("PREFECT_", "ORCHESTRATOR_", "DATABASE_URL", "DJANGO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "ORCHESTRATOR_HOME": str(HOME),
        "PREFECT_HOME": str(HOME / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }


def operator() -> str:
    """Make the tables and an account for the admin; its password."""
    password = secrets.token_urlsafe(12)
    manage("migrate", "--verbosity", "0")
    account = {"DJANGO_SUPERUSER_PASSWORD": password}
    manage("createsuperuser", "--noinput", "--username", "admin", "--email", "admin@localhost", extra=account)
    return password


def manage(*arguments: str, extra: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | dict(extra or {}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailed(f"manage.py {arguments[0]} failed:\n{done.stderr[-2000:]}")


@contextmanager
def running(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its output in a log file, asked to stop at the end. Its own session: Ctrl-C is for us alone."""
    with (HOME / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_health(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise DemoFailed(f"The server did not start: see {HOME / 'server.log'}.")


def register() -> None:
    """A process work pool and one scheduled deployment per flow, through the real client."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    for entrypoint, interval in FLOWS.items():
        loaded: Any = flow.from_source(source=str(EXAMPLES), entrypoint=entrypoint)
        loaded.deploy(name="scheduled", work_pool_name=POOL, interval=interval, print_next_steps=False, ignore_warnings=True)


def watch() -> None:
    """Show runs change state until some have completed."""
    from prefect.client.orchestration import get_client
    from rich.live import Live

    deadline = time.monotonic() + PATIENCE_SECONDS
    with get_client(sync_client=True) as client, Live(refresh_per_second=4) as live:
        while time.monotonic() < deadline:
            runs = shown_runs(client)
            live.update(table_of(runs, {flow.id: flow.name for flow in client.read_flows()}))
            if sum(run.state_name == "Completed" for run in runs) >= RUNS_TO_SEE:
                return
            time.sleep(0.5)
    raise DemoFailed(f"Fewer than {RUNS_TO_SEE} runs completed in {PATIENCE_SECONDS:.0f} s: see {HOME / 'worker.log'}.")


def shown_runs(client: Any) -> list[Any]:
    """The first dozen runs, soonest first."""
    from prefect.client.schemas.sorting import FlowRunSort

    runs: list[Any] = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=12)
    return runs


def table_of(runs: list[Any], flows: Mapping[UUID, str]) -> Any:
    from rich.table import Table

    colours = {"Completed": "green", "Running": "blue", "Pending": "yellow", "Late": "magenta", "Failed": "red"}
    table = Table("Flow", "Run", "Due (UTC)", "State", "Took", title="Flow runs")
    for run in runs:
        state = run.state_name or ""
        due = f"{run.expected_start_time:%H:%M:%S}" if run.expected_start_time else ""
        took = f"{run.total_run_time.total_seconds():.1f} s" if run.start_time else ""
        table.add_row(flows.get(run.flow_id, ""), run.name, due, f"[{colours.get(state, 'white')}]{state}[/]", took)
    return table


if __name__ == "__main__":
    sys.exit(main())

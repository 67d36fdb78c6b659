"""`python -m ops up`: the whole of Bellhop on one machine, from an empty directory to a proof that it works.

Embedded servers where no URL is given, migrations, a secret and an API key made once, all processes under supervision,
`dev.json` for programs that want to find them. Leaves no process behind, however it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import redis
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from models import keys, migrate
from models.errors import BellhopError
from models.states import Scope
from models.tenants import DEFAULT_TENANT
from ops.data_lock import DataDirLockedError, data_lock
from ops.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedValkey
from ops.log_lines import LogLines
from ops.ports import PortTakenError, reachable_host, require_free
from ops.private_files import make_data_dir, read_or_make, write_private
from ops.processes import PROCESS_VARIABLES, Ports, stack
from ops.proof import Proof, ProofError, prove
from ops.supervisor import StartError, Supervisor, process_child, server_child
from ops.system_user import NoSystemUserError

if TYPE_CHECKING:
    from models.settings import Settings

_FAILURES = (
    DataDirLockedError,
    EmbeddedServerError,
    NoSystemUserError,
    PortTakenError,
    ProofError,
    StartError,
)
_SERVERS = ("redis", "postgres")  # in the order in which they stop


class DevStack:
    """One run of the stack on a locked data directory."""

    def __init__(self, settings: Settings, data_dir: Path, lines: LogLines) -> None:
        self._data_dir = data_dir
        self._lines = lines
        self._ports = Ports.choose(settings)
        self._postgres = None if settings.database_url else EmbeddedPostgres(data_dir)
        self._valkey = None if settings.redis_url else EmbeddedValkey(data_dir)
        secret = settings.secret_key.get_secret_value()
        self._settings = settings.model_copy(
            update={
                "data_dir": data_dir,
                "database_url": self._postgres.url if self._postgres else settings.database_url,
                "redis_url": self._valkey.url if self._valkey else settings.redis_url,
                "secret_key": SecretStr(secret or _own_secret(data_dir)),
            }
        )
        self._specs = stack(self._settings, self._ports, data_dir)
        self._api_key = ""
        self._announced = False
        self._supervisor = Supervisor(lines, self._write_dev_json)
        self._dev_json = data_dir / "dev.json"

    async def run(self) -> None:
        """Start, prove, and go on until cancelled. Raises one of `_FAILURES`."""
        started = time.monotonic()
        self._dev_json.unlink(missing_ok=True)
        require_free(self._settings.host, self._ports.with_settings())
        # One unused connection per probe: a process that was just restarted must not be judged by an old socket.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=5, limits=limits, trust_env=False) as client:
            try:
                await self._start_servers()
                await self._prepare_database()
                env = self._environment()
                await self._supervisor.start(*(process_child(spec, env, client) for spec in self._specs))
                proof = await prove(self._api_url, self._socket_urls[0], self._api_key)
                self._announced = True
                self._write_dev_json()
                self._lines.block(self._welcome(proof, time.monotonic() - started))
                await self._supervisor.failure()
            finally:
                self._announced = False
                self._dev_json.unlink(missing_ok=True)
                await asyncio.shield(self._stop())

    def kill(self) -> None:
        """End every process now."""
        self._supervisor.kill()

    async def _stop(self) -> None:
        await self._supervisor.stop(*(spec.name for spec in self._specs))
        for server in _SERVERS:
            await self._supervisor.stop(server)
        await self._supervisor.close()

    async def _start_servers(self) -> None:
        servers = [server for server in (self._postgres, self._valkey) if server]
        if servers:
            self._lines.say("bellhop", f"starting {' and '.join(server.name for server in servers)}")
            await self._supervisor.start(*(server_child(server, dict(os.environ)) for server in servers))

    async def _prepare_database(self) -> None:
        try:
            if self._postgres:
                await asyncio.to_thread(self._postgres.ensure_database)
            self._lines.say("bellhop", "migrating the database")
            await asyncio.to_thread(migrate.upgrade, self._settings.database_url)
            self._api_key = await asyncio.to_thread(self._development_key)
        except (psycopg.OperationalError, OperationalError, BellhopError) as error:
            msg = f"the database (BELLHOP_DATABASE_URL) cannot be used: {getattr(error, 'orig', None) or error}"
            raise StartError(msg) from error
        for variable, url in (("BELLHOP_REDIS_URL", self._settings.redis_url), ("BELLHOP_BUS_URL", self._settings.bus)):
            if not self._valkey or url != self._valkey.url:
                await asyncio.to_thread(_require_redis, variable, url)

    def _development_key(self) -> str:
        """Return the key of the last run where this database still knows it; else a new one."""
        file = self._data_dir / "api_key"
        if file.exists():
            key = file.read_text(encoding="utf-8").strip()
            split = keys.split_key(key)
            live = {row["id"] for row in keys.list_keys(self._settings.database_url) if not row["revoked_at"]}
            if split and split[0] in live:
                return key
        _, key = keys.create_key(
            self._settings.database_url, tenant=DEFAULT_TENANT, scopes=[Scope.ADMIN.value], name="development"
        )
        write_private(file, key + "\n")
        return key

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in PROCESS_VARIABLES}
        return {
            **inherited,
            "BELLHOP_DATA_DIR": str(self._data_dir),
            "BELLHOP_DATABASE_URL": self._settings.database_url,
            "BELLHOP_REDIS_URL": self._settings.redis_url,
            "BELLHOP_SECRET_KEY": self._settings.secret_key.get_secret_value(),
            "BELLHOP_HOST": self._settings.host,
            "PYTHONUNBUFFERED": "1",
            # Celery warns root of pickled messages, which it is told nowhere to accept.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
        }

    @property
    def _api_url(self) -> str:
        return f"http://{reachable_host(self._settings.host)}:{self._ports.api}"

    @property
    def _socket_urls(self) -> list[str]:
        return [f"http://{reachable_host(self._settings.host)}:{port}" for port in self._ports.sockets]

    @property
    def _flower_url(self) -> str:
        return f"http://{reachable_host(self._settings.host)}:{self._ports.flower}"

    def _write_dev_json(self) -> None:
        if self._announced:
            write_private(self._dev_json, json.dumps(self._found_by(), indent=2) + "\n")

    def _found_by(self) -> dict[str, Any]:
        return {
            "api_url": self._api_url,
            "socket_urls": self._socket_urls,
            "flower_url": self._flower_url,
            "metrics": {spec.name: spec.metrics_url for spec in self._specs},
            "database_url": self._settings.database_url,
            "redis_url": self._settings.redis_url,
            "tenant": DEFAULT_TENANT,
            "api_key": self._api_key,
            "secret_key": self._settings.secret_key.get_secret_value(),
            "pids": self._supervisor.pids,
        }

    def _welcome(self, proof: Proof, took_s: float) -> str:
        example = json.dumps({"to": {"user": "u_1"}, "type": "shop.order.shipped", "title": "Order 42 is on its way"})
        return f"""
Bellhop is up, {took_s:.1f} s after the start. One notification went all the way, from POST to a Socket.IO client:
accepted (on disk) after {proof.accepted_ms:.1f} ms, on the client after {proof.arrived_ms:.1f} ms.

  API      {self._api_url}   (docs: {self._api_url}/docs)
  Sockets  {"  ".join(self._socket_urls)}
  Flower   {self._flower_url}
  API key  {self._api_key}
  Files    {self._dev_json}

See an inbox live, in a second terminal:

  {self._command_line()} tail u_1

Send something to it:

  curl -X POST {self._api_url}/v1/notifications \\
    -H 'Authorization: Bearer {self._api_key}' -H 'Content-Type: application/json' \\
    -d '{example}'

Ctrl-C stops everything.
"""

    def _command_line(self) -> str:
        """Return how to type `python -m ops` such that it finds this stack."""
        relative = os.path.relpath(sys.executable)
        python = shlex.quote(sys.executable if relative.startswith("..") else relative)
        is_default = self._data_dir == Path(".bellhop").resolve()
        found_by = "" if is_default else f"BELLHOP_DATA_DIR={shlex.quote(str(self._data_dir))} "
        return f"{found_by}{python} -m ops"


def _require_redis(variable: str, url: str) -> None:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        msg = f"Redis ({variable}) cannot be used: {error}"
        raise StartError(msg) from error


def _own_secret(data_dir: Path) -> str:
    return read_or_make(data_dir / "secret_key", lambda: secrets.token_urlsafe(48))


def run_up(settings: Settings) -> int:
    """Run the stack until SIGINT or SIGTERM. Returns the exit status."""
    data_dir = make_data_dir(settings.data_dir)
    lines = LogLines()
    try:
        with data_lock(data_dir):
            return asyncio.run(_until_signal(DevStack(settings, data_dir, lines), lines))
    except _FAILURES as error:
        sys.stdout.flush()
        sys.stderr.write(f"\nBELLHOP DID NOT START: {error}\n")
        return 1


async def _until_signal(dev_stack: DevStack, lines: LogLines) -> int:
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(dev_stack.run())
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            lines.say("bellhop", "stopping; once more to kill everything at once")
            running.cancel()
        else:
            dev_stack.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await running
    except asyncio.CancelledError:
        lines.say("bellhop", "stopped")
    finally:
        dev_stack.kill()  # after an orderly stop there is nothing left to kill
    return 0

"""The peer: the Node.js stack in `peers/node`, on a Postgres and a Valkey of its own with the settings that ours get.

Its packages are installed once below the data directory, exactly as its lock file says; later runs need no network.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import psycopg

from ops.bench.endpoint import ROOMS, Broadcasting, Endpoint, StackError, Wire
from ops.bench.stacks import stop, tail_of
from ops.data_lock import DataDirLockedError
from ops.embedded import EmbeddedServerError, embedded_servers
from ops.ports import free_ports
from ops.private_files import make_data_dir
from ops.system_user import NoSystemUserError, launched

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES = Path(__file__).with_name("peers") / "node"
_INSTALL = ("ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_INSTALL_S = 300
_START_S = 60.0
_STOP_S = 10.0
_POLL_S = 0.05
_TOKEN_TTL_S = 3600


class PeerUnavailableError(Exception):
    """The peer cannot be had on this machine; the text says what is missing."""


def install(cache: Path) -> Path:
    """Put the peer with its packages into `cache` and return it. Raises `PeerUnavailableError`."""
    if not shutil.which("node") or not (npm := shutil.which("npm")):
        msg = "node or npm was not found; install Node.js 20 or newer to compare with it"
        raise PeerUnavailableError(msg)
    make_data_dir(cache)
    for source in _SOURCES.iterdir():
        if source.is_file():
            shutil.copyfile(source, cache / source.name)
    stamp = cache / "installed"
    wanted = hashlib.sha256((cache / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        sys.stderr.write("Installing the Node peer's packages, once …\n")
        stamp.unlink(missing_ok=True)
        try:
            done = subprocess.run(
                [npm, *_INSTALL], cwd=cache, check=False, capture_output=True, text=True, timeout=_INSTALL_S
            )
        except subprocess.TimeoutExpired as error:
            msg = f"npm ci was not done after {_INSTALL_S} s"
            raise PeerUnavailableError(msg) from error
        if done.returncode != 0:
            msg = f"npm ci failed: {done.stderr.strip()[-500:]}"
            raise PeerUnavailableError(msg)
        stamp.write_text(wanted, encoding="utf-8")
    return cache


@contextmanager
def node_peer(installed: Path, data_dir: Path) -> Iterator[Endpoint]:
    """Run the peer on an empty directory for the block. Raises `StackError`."""
    with ExitStack() as stack:
        try:
            servers = stack.enter_context(embedded_servers(data_dir))
        except (EmbeddedServerError, DataDirLockedError, NoSystemUserError) as error:
            msg = f"the Node peer's servers do not start: {error}"
            raise StackError(msg) from error
        with psycopg.connect(servers.database_url) as connection:
            connection.execute((installed / "schema.sql").read_bytes())
        api_port, socket_port = free_ports(2)
        api_key, jwt_secret = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        env = {
            **os.environ,
            "NODE_ENV": "production",
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "API_KEY": api_key,
            "JWT_SECRET": jwt_secret,
        }
        pids = {"postgres": servers.postgres_pid, "redis": servers.redis_pid}
        logs = {}
        for name, port in (("api", api_port), ("socket", socket_port), ("worker", 0)):
            logs[name] = data_dir / f"{name}.log"
            process = _start(installed / f"{name}.js", {**env, "PORT": str(port)}, logs[name])
            stack.callback(stop, process, signal.SIGTERM, _STOP_S)
            pids[name] = process.pid
            _wait_until_ready(name, process, logs[name])

        def token_of(user: str, *rooms: str) -> str:
            claims = {"sub": user, "exp": int(time.time()) + _TOKEN_TTL_S} | ({"rooms": rooms} if rooms else {})
            return jwt.encode(claims, jwt_secret, algorithm="HS256")

        yield Endpoint(
            label="node",
            wire=Wire.PLAIN,
            single_url=f"http://127.0.0.1:{api_port}/notifications",
            bulk_url=f"http://127.0.0.1:{api_port}/notifications/bulk",
            socket_urls=(f"http://127.0.0.1:{socket_port}",),
            headers={"Authorization": f"Bearer {api_key}"},
            token_of=token_of,
            recipient=lambda user: {"user_id": user},
            pids=lambda: dict(pids),
            broadcasting=Broadcasting(
                url=lambda room: f"http://127.0.0.1:{api_port}/rooms/{room}/events",
                token_of=lambda user: token_of(user, f"{ROOMS}*"),
            ),
        )


def _start(script: Path, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            launched(["node", str(script)]),
            cwd=script.parent,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while b"ready" not in log.read_bytes().splitlines():
        if process.poll() is not None or time.monotonic() > deadline:
            msg = f"the Node peer's {name} does not start:\n{tail_of(log)}"
            raise StackError(msg)
        time.sleep(_POLL_S)

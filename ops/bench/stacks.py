"""The Bellhop under test: one of our own in a throwaway directory, or one that runs already.

Our own is `python -m ops up`, as a user starts it, on free ports, with Postgres and Valkey of its own: nothing that
the environment says about another stack reaches it, and nothing of it stays.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.tokens import mint_token
from ops.bench.endpoint import ROOMS, Backstage, Broadcasting, Endpoint, StackError, Wire
from ops.system_user import launched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHECKOUT = Path(__file__).resolve().parents[2]
_START_S = 120.0
_STOP_S = 40.0
_POLL_S = 0.05
_TOKEN_TTL_S = 3600
# Where another stack is, and where this one must not be. Everything else that is set (batch sizes, pools) is measured.
_NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ENV", "HOST", "METRICS_PORT", "FLOWER_BASIC_AUTH")
_KEEP_ALL = {"BELLHOP_INBOX_RETENTION": '{"*": {"items": 1000000}}'}  # some inboxes are deep on purpose
_FREE_PORTS = {"BELLHOP_API_PORT": "0", "BELLHOP_SOCKET_PORT": "0", "BELLHOP_FLOWER_PORT": "0"}


@contextmanager
def own_stack(data_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[Endpoint]:
    """Run a stack on an empty directory for the block, with `environment` on top. Raises `StackError`."""
    inherited = {name: value for name, value in os.environ.items() if name not in _without_prefix()}
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            launched([sys.executable, "-m", "ops", "up"], death_signal=signal.SIGINT),
            cwd=_CHECKOUT,
            env={**inherited, **_FREE_PORTS, **_KEEP_ALL, **(environment or {}), "BELLHOP_DATA_DIR": str(data_dir)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone: a second one would make it kill rather than stop
        )
    try:
        _wait_for(data_dir / "dev.json", process)
        yield running_stack(data_dir / "dev.json")
    except StackError as error:
        msg = f"{error}\n\nThe last lines that it wrote:\n{tail_of(log)}"
        raise StackError(msg) from error
    finally:
        stop(process, signal.SIGINT, _STOP_S)


def running_stack(dev_json: Path) -> Endpoint:
    """Return the stack that a dev.json describes. Raises `StackError`."""
    dev = _read(dev_json)

    def token_of(user: str, *rooms: str) -> str:
        return mint_token(dev["secret_key"], tenant=dev["tenant"], user=user, ttl_s=_TOKEN_TTL_S, rooms=rooms)[0]

    return Endpoint(
        label="bellhop",
        wire=Wire.NUMBERED,
        single_url=f"{dev['api_url']}/v1/notifications",
        bulk_url=f"{dev['api_url']}/v1/notifications/bulk",
        socket_urls=tuple(dev["socket_urls"]),
        headers={"Authorization": f"Bearer {dev['api_key']}"},
        token_of=token_of,
        recipient=lambda user: {"to": {"user": user}},
        pids=lambda: dict(_read(dev_json)["pids"]),
        backstage=Backstage(dev["api_url"], dev["database_url"], dev["redis_url"], dev["tenant"]),
        broadcasting=Broadcasting(
            url=lambda room: f"{dev['api_url']}/v1/rooms/{room}/events",
            token_of=lambda user: token_of(user, f"{ROOMS}*"),
        ),
    )


def stop(process: subprocess.Popen[bytes], number: signal.Signals, timeout_s: float) -> None:
    """End a process that we started: asked first, killed after `timeout_s`."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail_of(log: Path) -> str:
    """Return the last lines of a log, for a message."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])


def _without_prefix() -> set[str]:
    return {f"BELLHOP_{name}" for name in _NOT_INHERITED}


def _wait_for(dev_json: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while not dev_json.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StackError("Bellhop does not start")
        time.sleep(_POLL_S)


def _read(dev_json: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(dev_json.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"no stack is described by {dev_json}: {error}"
        raise StackError(msg) from error
    return found

"""The running stack as the proof reaches it: its addresses, its processes by name, and whether each is ready.

Invariant: a process is known by its id and its time of birth, so that no signal ever goes to one that was not meant.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil

from models.tokens import mint_token
from ops.prove.alarm import ViolationError

if TYPE_CHECKING:
    from pathlib import Path

    from ops.bench.endpoint import Endpoint

ROOMS = "proof:"  # how the names of all its rooms begin
KEPT = 600  # of each room's events: so few that much is removed while clients come and go
ENVIRONMENT = {  # of the stack
    "BELLHOP_SOCKET_NODES": "3",
    "BELLHOP_INBOX_RETENTION": '{"*": {"items": 1000000}}',  # what is claimed is that nothing at all is lost
    "BELLHOP_ROOM_RETENTION": f'{{"{ROOMS}*": {{"events": {KEPT}}}}}',
}
SERVERS = ("postgres", "redis")  # not Bellhop's own
_POLL_S = 0.1
_BACK_S = 60.0  # the supervisor's longest back-off, and a start on a busy machine
_PROBE_S = 5.0


class Target:
    """One stack of our own, found by its dev.json, which is written anew whenever a process is restarted."""

    def __init__(self, data_dir: Path, endpoint: Endpoint) -> None:
        self.data_dir = data_dir
        self.endpoint = endpoint
        dev = self._dev()
        self.api_url: str = dev["api_url"]
        self.socket_urls: tuple[str, ...] = tuple(dev["socket_urls"])
        self.metrics_urls: dict[str, str] = dev["metrics"]
        self.database_url: str = dev["database_url"]
        self.redis_url: str = dev["redis_url"]
        self._secret: str = dev["secret_key"]
        self._tenant: str = dev["tenant"]

    def short_token(self, user: str, ttl_s: int) -> str:
        """Return a token that ends soon, and grants every room and user of the proof."""
        return mint_token(self._secret, tenant=self._tenant, user=user, ttl_s=ttl_s, rooms=[f"{ROOMS}*"], watch=["*"])[
            0
        ]

    def _dev(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "dev.json").read_text(encoding="utf-8"))
        return found

    @property
    def maintenance_url(self) -> str:
        """A database of the same server that nobody else uses."""
        return self.database_url.rpartition("/")[0] + "/postgres"

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return dict(self._dev()["pids"])

    @property
    def socket_names(self) -> list[str]:
        """The socket nodes' names, in the order of `socket_urls`."""
        return [f"socket-{number}" if number > 1 else "socket" for number in range(1, len(self.socket_urls) + 1)]

    async def process(self, name: str) -> psutil.Process:
        """Return the process that runs under a name, once there is one. Raises `ViolationError` where none comes."""
        return await self.another(name, None)

    async def another(self, name: str, than: psutil.Process | None) -> psutil.Process:
        """Wait until a process of this name runs that is not `than`, and return it. Raises `ViolationError`."""
        deadline = time.monotonic() + _BACK_S
        while time.monotonic() < deadline:
            pid = self.pids.get(name)
            if pid is not None and (found := _our_process(pid)) is not None and found != than:
                return found
            await asyncio.sleep(_POLL_S)
        msg = f"{name} did not come back within {_BACK_S:.0f} s of being killed"
        raise ViolationError(msg)

    async def unready(self, http: aiohttp.ClientSession) -> list[str]:
        """Return what is not ready, each with its own words for why."""
        asked = {"api": f"{self.api_url}/health/ready"}
        asked |= {name: f"{url}/health/ready" for name, url in zip(self.socket_names, self.socket_urls, strict=True)}
        asked |= {name: url for name, url in self.metrics_urls.items() if name not in asked}
        said = await asyncio.gather(*(_said(http, url) for url in asked.values()))
        return [f"{name}: {words}" for name, words in zip(asked, said, strict=True) if words]


def tree_of(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; nothing where it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _our_process(pid: int) -> psutil.Process | None:
    """Return a process that our own stack's supervisor started; None where it has ended, whoever has its number now."""
    try:
        process = psutil.Process(pid)
        supervisor = process.parent()
        return process if supervisor is not None and supervisor.ppid() == os.getpid() else None
    except psutil.Error:
        return None


async def _said(http: aiohttp.ClientSession, url: str) -> str:
    """Return an empty text for "ready", else the answer."""
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=_PROBE_S)) as response:
            text = (await response.text())[:200]
            return "" if response.status == 200 else text or str(response.status)  # noqa: PLR2004  # HTTP's OK
    except (aiohttp.ClientError, OSError) as error:
        return repr(error)

"""A JavaScript client in a process of its own, told what to do line by line."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.javascript.packages import NODE, install
from tests.socket_server.conftest import arrive, device, eventually, node, publish

__all__ = ["arrive", "device", "javascript", "node", "publish"]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class JavaScript:
    """A running `client.mjs`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self.events: list[tuple[str, Any]] = []

    async def read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self.events.append((said["event"], said["body"]))
            elif "error" in said:
                self._asked.pop(said["id"]).set_exception(AssertionError(said["error"]))
            else:
                self._asked.pop(said["id"]).set_result(said["result"])

    async def do(self, name: str, **options: Any) -> Any:
        """Have it do something, and return the result."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"id": number, "do": name, **options}).encode() + b"\n")
        async with asyncio.timeout(10):
            return await answer

    async def ask(self, event: str, **body: Any) -> Any:
        """Send an event and return the server's answer."""
        return await self.do("ask", event=event, body=body)

    def bodies(self, event: str) -> list[Any]:
        return [body for name, body in self.events if name == event]

    async def heard(self, event: str, times: int = 1) -> list[Any]:
        """Wait until an event has come so often, and return what it brought."""
        await eventually(lambda: len(self.bodies(event)) >= times)
        return self.bodies(event)


@pytest.fixture
async def javascript() -> AsyncIterator[JavaScript]:
    directory = await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        NODE, "client.mjs", cwd=directory, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    running = JavaScript(process)
    reading = asyncio.create_task(running.read())
    yield running
    assert process.stdin
    process.stdin.close()
    await process.wait()
    await reading

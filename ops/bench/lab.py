"""Where scenarios are measured that have stacks of their own: new stacks, new users, and a limit on time.

A stack is thrown away with all that a scenario put into it; no scenario meets another one's leftovers.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from ops.bench import scenarios
from ops.bench.endpoint import StackError
from ops.bench.load import measure
from ops.bench.node_peer import PeerUnavailableError, install, node_peer
from ops.bench.stacks import own_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from ops.bench.endpoint import Backstage, Endpoint

Result = TypeVar("Result")


class Lab:
    """What a scenario measures with. `began` is told of each stack of ours that runs.

    The Node peer's packages are, or will be, in `packages`; None: ours is measured alone.
    """

    def __init__(
        self,
        directory: Path,
        *,
        users: int,
        repeat: int,
        scale: float,
        began: Callable[[Endpoint], None],
        packages: Path | None = None,
    ) -> None:
        self.users = users
        self.runs = range(1, repeat + 1)
        self.directory = directory
        self.scale = scale
        self._began = began
        self._packages = packages

    def scaled(self, count: int, least: int = 1) -> int:
        """Return the share of a count that is to be measured."""
        return max(least, round(count * self.scale))

    @staticmethod
    def prefix() -> str:
        """Return a beginning for the names of users that no stack knows yet."""
        return f"bench-{secrets.token_hex(4)}-"

    @contextmanager
    def stack(self, nodes: int = 1) -> Iterator[Endpoint]:
        """Run a new stack for the block. Raises `StackError`."""
        say(f"starting Bellhop with {nodes} socket node{'s' if nodes > 1 else ''}")
        with (
            tempfile.TemporaryDirectory(prefix="stack-", dir=self.directory) as throwaway,
            own_stack(Path(throwaway) / "bellhop", {"BELLHOP_SOCKET_NODES": str(nodes)}) as endpoint,
        ):
            self._began(endpoint)
            yield endpoint

    @contextmanager
    def peer(self) -> Iterator[Endpoint | None]:
        """Run a new Node peer for the block. Where it cannot run, say so, and let ours be measured without it."""
        with ExitStack() as stack:
            endpoint = None
            if self._packages:
                throwaway = stack.enter_context(tempfile.TemporaryDirectory(prefix="node-", dir=self.directory))
                try:
                    installed = install(self._packages)
                    say("starting the Node peer")
                    endpoint = stack.enter_context(node_peer(installed, Path(throwaway) / "node"))
                except (PeerUnavailableError, StackError) as error:
                    say(f"{error}\nwithout the Node peer, then")
            yield endpoint

    def warm_up(self, endpoint: Endpoint, users: int | None = None) -> None:
        """Let code and caches warm up, as a stack that has run for a while has."""
        for scenario in scenarios.WARM_UP:
            warming = scenario.scaled(min(1.0, self.scale))
            uvloop.run(measure(endpoint, warming, users=users or self.users, prefix=self.prefix()))

    @staticmethod
    def run(work: Coroutine[Any, Any, Result], *, limit_s: float, what: str) -> Result:
        """Run one measurement. Raises `StackError` where it takes longer than `limit_s`."""

        async def bounded() -> Result:
            async with asyncio.timeout(limit_s):
                return await work

        say(what)
        try:
            return uvloop.run(bounded())
        except TimeoutError:
            msg = f"{what}: was not over after {limit_s:.0f} s"
            raise StackError(msg) from None


def backstage_of(endpoint: Endpoint) -> Backstage:
    """Return what stands behind an endpoint. Raises `StackError` where it is not Bellhop."""
    if endpoint.backstage is None:
        msg = f"{endpoint.label} is measured from outside only"
        raise StackError(msg)
    return endpoint.backstage


def say(text: str) -> None:
    """Tell the person who waits what happens now."""
    sys.stderr.write(f"-- {text}\n")
    sys.stderr.flush()

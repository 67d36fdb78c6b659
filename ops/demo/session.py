"""One call of `python -m ops demo`: on the stack that runs here, or else on one of its own, which it stops again.

Invariant: however it ends, what it started is stopped in order, and nothing of it stays.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from models.settings import load_settings
from ops.bench.endpoint import StackError
from ops.bench.stacks import own_stack
from ops.demo.backend import DemoError
from ops.demo.ledger import Ledger
from ops.demo.play import OWNERS, Target, play
from ops.demo.screen import Screen
from ops.private_files import make_data_dir
from ops.running_stack import find_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.demo import Options

_INTERRUPTED = 130


def play_all(options: Options) -> int:
    """Play on a stack, and print. Returns the exit status."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end in the same orderly way
    screen = Screen()
    try:
        with _stack(screen) as target:
            return asyncio.run(_until_signal(target, options, screen))
    except (StackError, DemoError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; everything was stopped.\n")
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _stack(screen: Screen) -> Iterator[Target]:
    running = find_stack()
    if running.api_key:
        if _answers(running.api_url):
            screen.say(f"on the stack that runs here, {running.api_url}")
            yield Target(running.api_url, {"Authorization": f"Bearer {running.api_key}"}, running.socket_urls)
            return
        screen.say(f"the stack of dev.json does not answer at {running.api_url}")
    screen.say("no stack runs here; starting one for this, which takes a few seconds")
    # On the disk that a stack here would use: a temporary directory is in memory on some systems.
    data_dir = make_data_dir(load_settings().data_dir)
    with (
        tempfile.TemporaryDirectory(prefix="demo-", dir=data_dir) as throwaway,
        own_stack(Path(throwaway) / "bellhop") as endpoint,
    ):
        assert endpoint.backstage  # noqa: S101  # a stack of our own has one
        yield Target(endpoint.backstage.api_url, endpoint.headers, endpoint.socket_urls)
        screen.say("stopping it")


def _answers(api_url: str) -> bool:
    try:
        return httpx.get(f"{api_url}/health/live", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


async def _until_signal(target: Target, options: Options, screen: Screen) -> int:
    """Play until the time is over or somebody interrupts; who does so twice does not wait for what is on its way."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    ledger = Ledger(screen.show)
    playing = asyncio.create_task(play(target, options, ledger, stopping))

    def interrupt() -> None:
        if stopping.is_set():
            playing.cancel()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    began = time.monotonic()
    screen.say(f"online: {'; '.join(owner.name for owner in OWNERS)}; everybody else is away")
    screen.title()
    try:
        await asyncio.wait({playing})
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.default_int_handler)
    if playing.cancelled():
        raise KeyboardInterrupt
    playing.result()
    screen.summary(ledger, seconds=time.monotonic() - began, seed=options.seed)
    return 1 if ledger.faults or ledger.missing() else 0

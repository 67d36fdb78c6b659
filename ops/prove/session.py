"""One call of `python -m ops prove`: for each seed a stack of its own in a directory of its own, a line, and a table.

Invariant: however it ends, the stack is stopped in order, and nothing that it started is left.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from models.settings import SettingsError, load_settings
from ops.bench.endpoint import StackError
from ops.bench.stacks import own_stack
from ops.private_files import make_data_dir
from ops.prove.alarm import ViolationError
from ops.prove.leaks import Seen
from ops.prove.report import Figures, exit_status, table
from ops.prove.seed import Seed
from ops.prove.target import ENVIRONMENT, Target

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from ops.prove import Options

_INTERRUPTED = 130
# What Bellhop itself calls an error, or its servers did not catch: libraries may say of what is broken that it is.
_COMPLAINT = re.compile(
    r"\[(?:error|critical) *\] .*\[(?:api|models|socket_server|workers|asyncio|uvicorn)[.\]].*"
    r"|\S+ (?:ended with status [^0]|gave no sign of life).*"  # the supervisor, of what nobody killed or asked to go
)
_VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b\d[\d.:]*|(?<==)\S+")


def prove_all(options: Options) -> int:
    """Prove every seed; ends at the first violation. Returns the exit status."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end in the same orderly way
    seeds: list[Figures] = []
    try:
        for seed in range(options.seed, options.seed + options.seeds):
            figures = Figures(seed, options.seconds)
            _prove(options, figures)
            seeds.append(figures)
            sys.stdout.write(json.dumps(figures.as_json()) + "\n")
            sys.stdout.flush()
            if figures.violation:
                break
    except (StackError, SettingsError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(table(seeds) + "\nInterrupted; everything was stopped.\n")
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.stderr.write(table(seeds))
    if exit_status(seeds):
        sys.stderr.write(f"replay it: {options.replay(seeds[-1].seed)}\n")
    return exit_status(seeds)


def _prove(options: Options, figures: Figures) -> None:
    """Prove one seed; a violation stands in its figures afterwards."""
    with _directory(keep=options.keep) as directory:
        data_dir = directory / "bellhop"
        if options.keep:
            _say(f"data: {data_dir}, log: {data_dir}.log")
        seen = Seen()
        _say(f"seed {figures.seed}: starting Bellhop")
        try:
            with own_stack(data_dir, ENVIRONMENT) as endpoint:
                _run(_prove_running(options, figures, Target(data_dir, endpoint), seen))
            seen.expect_none()
        except ViolationError as violation:
            figures.violation = str(violation)
            _say(f"VIOLATED: {violation}")
            _say(f"data: {data_dir}, log: {data_dir}.log" if options.keep else "--keep would keep data and log")
        figures.complaints = _complaints(Path(f"{data_dir}.log"))


async def _prove_running(options: Options, figures: Figures, target: Target, seen: Seen) -> None:
    looking = asyncio.create_task(seen.look_regularly())
    try:
        await Seed(options, target, figures, _say).run()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it; SIGINT and SIGTERM end it in order, and then everything else."""

    async def until_signal() -> None:
        loop, running = asyncio.get_running_loop(), asyncio.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, running.cancel)
        await asyncio.wait({running})
        if running.cancelled():
            raise KeyboardInterrupt
        running.result()

    try:
        uvloop.run(until_signal())
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)


@contextmanager
def _directory(*, keep: bool) -> Iterator[Path]:
    """Yield a new directory below the data directory: on the disk that a stack here would use."""
    data_dir = make_data_dir(load_settings().data_dir)
    if keep:
        yield Path(tempfile.mkdtemp(prefix="prove-", dir=data_dir))
        return
    with tempfile.TemporaryDirectory(prefix="prove-", dir=data_dir) as name:
        yield Path(name)


def _complaints(log: Path) -> dict[str, int]:
    """Return the lines that tell of something that nobody foresaw, without what differs each time."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        found = [match[0] for line in lines if (match := _COMPLAINT.search(line))]
    return dict(Counter(_VARYING.sub("…", line)[:200] for line in found))


def _say(text: str) -> None:
    sys.stderr.write(f"-- {text}\n")
    sys.stderr.flush()

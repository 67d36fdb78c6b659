"""One call of `python -m ops bench`: starts the stacks, takes turns between them, prints a line per run and a table.

Both stacks stay up throughout and only one is under load at a time: starting one anew for each turn would measure cold
caches and cold code, and what an idle stack takes is little beside what a run takes. The order of the two changes with
every repeat, so that neither always comes second.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from models.settings import SettingsError, load_settings
from ops.bench import scenarios
from ops.bench.endpoint import StackError
from ops.bench.load import measure
from ops.bench.node_peer import PeerUnavailableError, install, node_peer
from ops.bench.report import exit_status, table
from ops.bench.stacks import own_stack, running_stack
from ops.private_files import make_data_dir

if TYPE_CHECKING:
    from ops.bench import Options
    from ops.bench.endpoint import Endpoint
    from ops.bench.figures import Figures
    from ops.bench.scenarios import Scenario

_INTERRUPTED = 130


def measure_all(options: Options) -> int:
    """Measure everything that is asked for. Returns the exit status."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end in the same orderly way
    try:
        with ExitStack() as stack:
            bellhop, peer = _start(options, stack)
            session = _Session(options, bellhop, peer)
            session.run()
    except (StackError, SettingsError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; everything was stopped.\n")
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.stderr.write(table(session.measured, scale=options.scale))
    return exit_status(session.measured)


def _start(options: Options, stack: ExitStack) -> tuple[Endpoint, Endpoint | None]:
    data_dir = make_data_dir(load_settings().data_dir)
    # On the disk that a stack here would use: a temporary directory is in memory on some systems, where fsync is free.
    throwaway = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir)))
    if options.dev_json:
        bellhop = running_stack(options.dev_json)
    else:
        _say("starting Bellhop")
        bellhop = stack.enter_context(own_stack(throwaway / "bellhop"))
    peer = None
    if options.peer:
        try:
            installed = install(data_dir / "bench-node")
            _say("starting the Node peer")
            peer = stack.enter_context(node_peer(installed, throwaway / "node"))
        except (PeerUnavailableError, StackError) as error:
            _say(f"{error}\nwithout the Node peer, then")
    return bellhop, peer


class _Session:
    def __init__(self, options: Options, bellhop: Endpoint, peer: Endpoint | None) -> None:
        self.measured: list[Figures] = []
        self._options = options
        self._bellhop = bellhop
        self._peer = peer
        self._prefix = f"bench-{secrets.token_hex(3)}-"  # users that a stack in use does not know yet

    def run(self) -> None:
        options = self._options
        for scenario in scenarios.WARM_UP:
            for endpoint in self._turn(1):
                self._measured(endpoint, scenario.scaled(options.scale), 0)
        for scenario in scenarios.chosen(options.only, backlog=options.backlog, scale=options.scale):
            for number in range(1, options.repeat + 1):
                for endpoint in self._turn(number):
                    figures = self._measured(endpoint, scenario, number)
                    if figures:
                        self.measured.append(figures)
                        sys.stdout.write(json.dumps(figures.as_json()) + "\n")
                        sys.stdout.flush()

    def _turn(self, number: int) -> list[Endpoint]:
        both = [self._bellhop, self._peer] if self._peer else [self._bellhop]
        return both if number % 2 else both[::-1]

    def _measured(self, endpoint: Endpoint, scenario: Scenario, number: int) -> Figures | None:
        """Return one run's figures; None where the peer failed, which ends its part."""
        _say(f"{scenario.name}: {endpoint.label}")
        try:
            return uvloop.run(measure(endpoint, scenario, users=self._options.users, prefix=self._prefix, run=number))
        except StackError as error:
            if endpoint is self._bellhop:
                raise
            _say(f"{error}\ngoing on without the Node peer")
            self._peer = None
            return None


def _say(text: str) -> None:
    sys.stderr.write(f"-- {text}\n")
    sys.stderr.flush()

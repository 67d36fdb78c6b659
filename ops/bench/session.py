"""One call of `python -m ops bench`: the comparison, then what has stacks of its own, a line per run, and a table.

For the comparison both stacks stay up throughout and only one is under load at a time: starting one anew for each turn
would measure cold caches and cold code, and what an idle stack takes is little beside what a run takes. The order of
the two changes with every repeat, so that neither always comes second. They are stopped before what comes next.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from models.settings import SettingsError, load_settings
from ops.bench import scenarios
from ops.bench.alone import MEASURED_BY
from ops.bench.chart import ChartError, draw
from ops.bench.endpoint import StackError
from ops.bench.lab import Lab, backstage_of, say
from ops.bench.load import measure
from ops.bench.machine import header
from ops.bench.report import exit_status, table
from ops.bench.stacks import own_stack, running_stack
from ops.private_files import make_data_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench import Options
    from ops.bench.endpoint import Endpoint
    from ops.bench.facts import Facts
    from ops.bench.figures import Figures
    from ops.bench.scenarios import Scenario

_INTERRUPTED = 130
_FILES = ("dev_json", "chart", "results")  # options that say nothing about what was measured


def measure_all(options: Options) -> int:
    """Measure everything that is asked for. Returns the exit status."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end in the same orderly way
    session = _Session(options)
    try:
        session.run()
    except (StackError, SettingsError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; everything was stopped.\n")
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.stderr.write(table(session.measured, session.facts, scale=options.scale))
    if options.chart:
        session.draw(options.chart)
    return exit_status(session.measured, session.facts) or int(session.failed)


class _Session:
    def __init__(self, options: Options) -> None:
        self.measured: list[Figures] = []
        self.facts: list[Facts] = []
        self.failed = False
        self._options = options
        self._lines: list[dict[str, Any]] = []

    def run(self) -> None:
        options = self._options
        compared = scenarios.chosen(options.only, backlog=options.backlog, scale=options.scale)
        data_dir = make_data_dir(load_settings().data_dir)
        # On the disk that a stack here would use: a temporary directory is in memory on some systems, where fsync is
        # free.
        with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir) as throwaway:
            lab = Lab(
                Path(throwaway),
                users=options.users,
                repeat=options.repeat,
                scale=options.scale,
                began=self._began,
                packages=data_dir / "bench-node" if options.peer else None,
            )
            if compared:
                self._compare(compared, lab)
            for name in scenarios.chosen_alone(options.only):
                self._measure_alone(name, lab)

    # --- with stacks of their own ----------------------------------------------------------------------------

    def _measure_alone(self, name: str, lab: Lab) -> None:
        """Measure one scenario; where it cannot be done, say so, and let the next one have its turn."""
        try:
            for facts in MEASURED_BY[name](lab):
                self.facts.append(facts)
                self._line(facts.as_json())
        except StackError as error:
            self.failed = True
            say(f"{name}: {error}")

    # --- the comparison --------------------------------------------------------------------------------------

    def _compare(self, compared: list[Scenario], lab: Lab) -> None:
        options = self._options
        with ExitStack() as stack:
            if options.dev_json:
                bellhop = running_stack(options.dev_json)
            else:
                say("starting Bellhop")
                bellhop = stack.enter_context(own_stack(lab.directory / "bellhop"))
            self._began(bellhop)
            peer = stack.enter_context(lab.peer())
            for figures in _Turns(options, bellhop, peer).take(compared):
                self.measured.append(figures)
                self._line(figures.as_json())

    # --- lines -----------------------------------------------------------------------------------------------

    def _began(self, endpoint: Endpoint) -> None:
        """Say what is measured, and where, before the first figure."""
        if not self._lines:
            options = {name: value for name, value in asdict(self._options).items() if name not in _FILES}
            self._line(header(backstage_of(endpoint), options))

    def _line(self, line: dict[str, Any]) -> None:
        self._lines.append(line)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def draw(self, file: Path) -> None:
        """Draw the comparison; where there is too little to draw, say so."""
        try:
            draw(self._lines, file)
        except ChartError as error:
            self.failed = True
            say(f"no chart: {error}")


class _Turns:
    """Puts the same scenarios to both stacks, in turns."""

    def __init__(self, options: Options, bellhop: Endpoint, peer: Endpoint | None) -> None:
        self._options = options
        self._bellhop = bellhop
        self._peer = peer
        self._prefix = Lab.prefix()  # users that a stack in use does not know yet

    def take(self, compared: list[Scenario]) -> Iterator[Figures]:
        """Yield each run's figures."""
        options = self._options
        for scenario in scenarios.WARM_UP:
            for endpoint in self._turn(1):
                self._run(endpoint, scenario.scaled(options.scale), 0)
        for scenario in compared:
            for number in range(1, options.repeat + 1):
                for endpoint in self._turn(number):
                    figures = self._run(endpoint, scenario, number)
                    if figures:
                        yield figures

    def _turn(self, number: int) -> list[Endpoint]:
        both = [self._bellhop, self._peer] if self._peer else [self._bellhop]
        return both if number % 2 else both[::-1]

    def _run(self, endpoint: Endpoint, scenario: Scenario, number: int) -> Figures | None:
        """Return one run's figures; None where the peer failed, which ends its part."""
        say(f"{scenario.name}: {endpoint.label}")
        try:
            return uvloop.run(measure(endpoint, scenario, users=self._options.users, prefix=self._prefix, run=number))
        except StackError as error:
            if endpoint is self._bellhop:
                raise
            say(f"{error}\ngoing on without the Node peer")
            self._peer = None
            return None

"""`prove`: break everything, and see that nothing is lost. How, and what is claimed, stands in `ops.prove`."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.prove import Options, run
from ops.prove.plan import Kind


def prove(  # noqa: PLR0917  # each is an option
    seed: Annotated[int, typer.Option(min=0, help="The first seed; it decides what breaks when")] = Options.seed,
    seconds: Annotated[float, typer.Option(min=5, max=86_400, help="Of chaos, for each seed")] = Options.seconds,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="How many, each on a new stack")] = Options.seeds,
    faults: Annotated[str, typer.Option(metavar="KINDS", help=f"Some of {', '.join(Kind)}; all by default")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep data and logs")] = Options.keep,
    users: Annotated[int, typer.Option(min=2, max=5_000)] = Options.users,
    devices: Annotated[int, typer.Option(min=1, max=10, help="At most, for each user")] = Options.devices,
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="Notifications per second")] = Options.rate,
) -> None:
    """Kill, freeze, cut off and fill up a stack under load, and check that every promise is kept.

    Starts a stack of its own and stops it. A JSON line per seed on stdout, progress and a table on stderr. Status 1 at
    the first promise that is broken, with the command that replays it.
    """
    names = tuple(name.strip() for name in faults.split(",") if name.strip())
    if unknown := [name for name in names if name not in set(Kind)]:
        message = f"{', '.join(unknown)}: there is only {', '.join(Kind)}"
        raise typer.BadParameter(message, param_hint="--faults")
    raise typer.Exit(run(Options(seed, seconds, seeds, names, keep, users, devices, rate)))

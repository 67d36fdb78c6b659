"""`bench`: measure this machine's stack. What is measured, and how, stands in `ops.bench`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import Annotated

import typer

from ops.bench import Options, run
from ops.bench.scenarios import ALONE, CHOICES, EVERYTHING, NAMES, chosen, chosen_alone

_WHICH = (
    f"Some of {', '.join(CHOICES)}, which are all compared by default; "
    f"of {', '.join(ALONE)}, for which Bellhop gets stacks of its own; or {EVERYTHING}"
)


def bench(  # noqa: PLR0917  # each is an option
    only: Annotated[str, typer.Option(metavar="NAMES", help=_WHICH)] = "",
    users: Annotated[int, typer.Option(min=1, max=20_000, help="Sockets, one per user")] = Options.users,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Runs of each; the table shows medians")] = Options.repeat,
    backlog: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Low ones that wait under critical ones")
    ] = Options.backlog,
    scale: Annotated[float, typer.Option(min=0.0001, max=10, help="Multiplies every count")] = Options.scale,
    peer: Annotated[bool, typer.Option("--peer/--no-peer", help="Measure the Node.js stack, too")] = Options.peer,
    dev_json: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Compare a stack that runs already")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE.svg", help="Draw the comparison with the Node.js stack")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--from", exists=True, dir_okay=False, help="Draw from these JSON lines and measure nothing"),
    ] = None,
) -> None:
    """Measure throughput, latency and CPU: a JSON line per run on stdout, a table on stderr.

    Starts a stack of its own, and a Node.js one beside it, and stops both. Status 1 where something was lost, doubled
    or out of order, or did not work; never for speed.
    """
    names = tuple(name for name in only.split(",") if name)
    if unknown := [name for name in names if name not in NAMES]:
        message = f"{', '.join(unknown)}: there is only {', '.join(NAMES)}"
        raise typer.BadParameter(message, param_hint="--only")
    if results and not chart:
        raise typer.BadParameter("is drawn with --chart FILE.svg", param_hint="--from")
    if chart and not results and not (peer and chosen(names, backlog=backlog, scale=scale)):
        raise typer.BadParameter("nothing to draw: it shows what is compared with the peer", param_hint="--chart")
    if dev_json and (alone := chosen_alone(names)):
        message = f"{', '.join(alone)}: not on a stack that runs already, but on new ones"
        raise typer.BadParameter(message, param_hint="--dev-json")
    options = Options(names, users, repeat, backlog, scale, peer, dev_json, chart, results)
    raise typer.Exit(run(options))

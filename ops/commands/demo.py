"""`demo`: examples that run. What they are, and how they are played, stands in `ops.demo`."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from ops.demo import Options, run
from ops.demo.producers import PRODUCERS

_SEEDS = 10_000


def demo(
    seconds: Annotated[float, typer.Option(min=0, max=604_800, help="0: until Ctrl-C")] = 30,
    domains: Annotated[str, typer.Option(metavar="NAMES", help=f"Some of {', '.join(PRODUCERS)}; all by default")] = "",
    pace: Annotated[float, typer.Option(min=0.05, max=50, help="2 is twice as fast")] = Options.pace,
    seed: Annotated[int | None, typer.Option(min=0, help="The same one tells the same stories")] = None,
) -> None:
    """Let example domains publish and a few people receive, and print what arrives.

    On the stack that runs here, else on one of its own. Status 1 where something that was accepted did not arrive.
    """
    names = tuple(dict.fromkeys(name.strip() for name in domains.split(",") if name.strip()))
    if unknown := [name for name in names if name not in PRODUCERS]:
        message = f"{', '.join(unknown)}: there is only {', '.join(PRODUCERS)}"
        raise typer.BadParameter(message, param_hint="--domains")
    chosen = secrets.randbelow(_SEEDS) if seed is None else seed
    raise typer.Exit(run(Options(seconds or None, names, pace, chosen)))

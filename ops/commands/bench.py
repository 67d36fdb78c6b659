"""`bench`: measure this machine's stack. What is measured, and how, stands in `ops.bench`."""

from __future__ import annotations

import typer


def bench(context: typer.Context) -> None:
    """Measure throughput and latency; prints JSON lines. `bench --help` lists its own options."""
    from ops.bench import main  # noqa: PLC0415  # loads every client library

    raise typer.Exit(main(context.args))

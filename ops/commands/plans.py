"""`plans`: how Postgres carries out the hot statements. How it is asked stands in `ops.plans`."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.plans.fill import Size
from ops.plans.session import run


def plans(
    deliveries: Annotated[
        int, typer.Option(min=10_000, max=20_000_000, help="How many; everything else is in proportion")
    ] = Size().deliveries,
    write: Annotated[bool, typer.Option("--write", help="Put them into docs/plans.md, too")] = False,  # noqa: FBT002
) -> None:
    """Show the plan of each hot statement, from a Postgres of its own that is filled for it and thrown away.

    Status 1 where one reads the whole of a big table.
    """
    raise typer.Exit(run(deliveries, write=write))

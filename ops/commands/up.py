"""`up`: start everything on this machine."""

from __future__ import annotations

import typer

from ops.running_stack import settings_or_exit


def up() -> None:
    """Start everything: embedded servers where no URL is set, migrations, and all processes, until Ctrl-C."""
    from ops.dev_stack import run_up  # noqa: PLC0415  # loads every client library; other commands need not wait for it

    raise typer.Exit(run_up(settings_or_exit()))

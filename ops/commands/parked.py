"""`parked list|replay`: notifications whose dispatch failed for good."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID  # noqa: TC003  # typer reads the annotations

import typer

from models.parked import list_parked, replay_parked
from ops.commands.database_errors import say_database_errors
from ops.running_stack import find_stack

parked = typer.Typer(help="Notifications that could not be dispatched.", no_args_is_help=True)


@parked.command("list")
def list_all() -> None:
    """List them, oldest first, with their reasons."""
    database_url = find_stack().need("database_url")
    with say_database_errors():
        rows = list_parked(database_url)
    for row in rows:
        typer.echo("  ".join(f"{name}={value}" for name, value in row.items()))
    if not rows:
        typer.echo("Nothing is parked.", err=True)


@parked.command()
def replay(
    notification_ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay everything that is parked")] = False,  # noqa: FBT002
) -> None:
    """Put notifications back into the outbox, to be tried again."""
    if every == bool(notification_ids):
        message = "give either ids or --all"
        raise typer.BadParameter(message)
    database_url = find_stack().need("database_url")
    with say_database_errors():
        count = replay_parked(database_url, None if every else [str(each) for each in notification_ids or []])
    typer.echo(f"{count} put back.")
    raise typer.Exit(0 if every or count else 1)

"""`migrate`: bring the database to the newest schema."""

from __future__ import annotations

import typer

from models import migrate as migrations
from ops.commands.database_errors import say_database_errors
from ops.running_stack import find_stack


def migrate() -> None:
    """Bring the database to the newest migration."""
    database_url = find_stack().need("database_url")
    with say_database_errors():
        before, head = migrations.current_and_head(database_url)
        migrations.upgrade(database_url)
    typer.echo(f"The database is at {head}" + (", as before." if before == head else f" (was: {before or 'empty'})."))

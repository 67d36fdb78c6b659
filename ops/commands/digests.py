"""`digests list|close`: what waits for a user to arrive as one, and letting it arrive now."""

from __future__ import annotations

from typing import Annotated

import typer

from models.database import connect
from models.digest_closing import MOST_OF_USER, close_of_user, look
from models.tenants import DEFAULT_TENANT
from ops.commands.database_errors import say_database_errors
from ops.running_stack import find_stack

digests = typer.Typer(help="What is gathered for a user.", no_args_is_help=True)

User = Annotated[str, typer.Argument(help="The user's id")]
Tenant = Annotated[str, typer.Option(help="Whose user that is")]


@digests.command("list")
def list_open(user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """List the open ones, the first 100, with what each would arrive as now."""
    with say_database_errors(), connect(find_stack().need("database_url")) as connection:
        found = look(connection, tenant, user)
    for each in found:
        title = each.notification["title"] if each.notification else None
        named = {name: each.digest[name] for name in ("type", "key", "opened_at", "closes_at")}
        named |= {"count": each.count, "title": title}
        typer.echo("  ".join(f"{name}={value}" for name, value in named.items()))
    if not found:
        typer.echo("Nothing waits.", err=True)


@digests.command()
def close(user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Close the open ones; what they become is sent within a second or two."""
    count = 0
    with say_database_errors(), connect(find_stack().need("database_url")) as connection:
        while closed := close_of_user(connection, tenant, user):
            count += len(closed)
            if len(closed) < MOST_OF_USER:
                break
    typer.echo(f"{count} closed.")
    raise typer.Exit(0 if count else 1)

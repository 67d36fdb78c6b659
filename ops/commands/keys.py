"""`keys create|list|revoke`: API keys, straight in the database."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from models import keys as api_keys
from models.fields import TENANT_PATTERN
from models.states import Scope
from models.tenants import DEFAULT_TENANT
from ops.commands.database_errors import say_database_errors
from ops.running_stack import find_stack

keys = typer.Typer(help="API keys of backends.", no_args_is_help=True)


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for")] = "command line",
    scope: Annotated[list[Scope] | None, typer.Option(help="May be given several times; without: admin")] = None,
    tenant: Annotated[str, typer.Option(help="Made where it is new")] = DEFAULT_TENANT,
    domain: Annotated[list[str] | None, typer.Option(help="The only domains that it may write to")] = None,
) -> None:
    """Create a key and print it: the only time that it is shown."""
    if not re.fullmatch(TENANT_PATTERN, tenant):
        message = f"{tenant!r} is not a tenant's name: a-z, 0-9, _ and -, at most 63"
        raise typer.BadParameter(message, param_hint="--tenant")
    scopes = [each.value for each in scope or [Scope.ADMIN]]
    database_url = find_stack().need("database_url")
    with say_database_errors():
        key_id, key = api_keys.create_key(database_url, tenant=tenant, scopes=scopes, name=name, domains=domain or ())
    typer.echo(f"Key {key_id} of tenant {tenant} with {', '.join(scopes)}. It is not shown again:", err=True)
    typer.echo(key)


@keys.command("list")
def list_all() -> None:
    """List all keys, without their secrets."""
    database_url = find_stack().need("database_url")
    with say_database_errors():
        rows = api_keys.list_keys(database_url)
    for row in rows:
        state = f"revoked {row['revoked_at']:%Y-%m-%d %H:%M}" if row.get("revoked_at") else "live"
        domains = f" domains={','.join(row['domains'])}" if row.get("domains") else ""
        typer.echo(f"{row['id']}  {row['tenant']}  {','.join(row['scopes'])}{domains}  {state}  {row['name']}")


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `list` shows it, or the whole key")]) -> None:
    """Revoke a key."""
    split = api_keys.split_key(key_id)
    database_url = find_stack().need("database_url")
    with say_database_errors():
        done = api_keys.revoke_key(database_url, split[0] if split else key_id)
    typer.echo("Revoked." if done else "There is no live key of that id.", err=not done)
    raise typer.Exit(0 if done else 1)

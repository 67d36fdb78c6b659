"""`tenants list|rotate-secret|end-rotation|set-jwks|require-types`: settings of tenants, straight in the database."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from models import tenants as of_tenants
from models.tenants import DEFAULT_TENANT
from ops.commands.database_errors import say_database_errors
from ops.running_stack import find_stack

tenants = typer.Typer(
    help="Tenants: how their user tokens are signed, and which types they take.", no_args_is_help=True
)

Tenant = Annotated[str, typer.Argument(help="The tenant's name")]


@tenants.command("list")
def list_all() -> None:
    """List all tenants. Those of the default one are settings: BELLHOP_SECRET_KEY and BELLHOP_JWKS_URL."""
    database_url = find_stack().need("database_url")
    with say_database_errors():
        rows = of_tenants.list_tenants(database_url)
    for row in rows:
        rotation = "  two secrets" if row["in_rotation"] else ""
        jwks = f"  keys from {row['jwks_url']}" if row["jwks_url"] else ""
        types = "  registered types only" if row["require_types"] else ""
        typer.echo(f"{row['id']}  since {row['created_at']:%Y-%m-%d}{rotation}{jwks}{types}")


@tenants.command()
def rotate_secret(tenant: Tenant) -> None:
    """Sign with a new secret. Tokens signed until now stay good until `end-rotation`; every process knows in 5 s."""
    _say_outcome(of_tenants.rotate_secret(_database_url(tenant), tenant), f"{tenant} signs with a new secret.", tenant)


@tenants.command()
def end_rotation(tenant: Tenant) -> None:
    """Believe the secret before the last rotation no longer."""
    _say_outcome(of_tenants.end_rotation(_database_url(tenant), tenant), f"{tenant} has one secret.", tenant)


@tenants.command()
def set_jwks(
    tenant: Tenant,
    url: Annotated[str, typer.Argument(help="Where its identity provider publishes its keys; without: nowhere")] = "",
) -> None:
    """Believe tokens that an identity provider signs, beside those with the tenant's own secret."""
    if url and urlsplit(url).scheme != "https":
        message = f"{url!r} is not an https URL"
        raise typer.BadParameter(message, param_hint="URL")
    done = of_tenants.set_jwks_url(_database_url(tenant), tenant, url or None)
    _say_outcome(done, f"{tenant} believes {url or 'no provider'}.", tenant)


@tenants.command()
def require_types(
    tenant: Tenant,
    *,
    off: Annotated[bool, typer.Option("--off", help="Take all types again")] = False,
) -> None:
    """Refuse notifications whose type is not in the tenant's catalogue; every process knows within a second."""
    database_url = find_stack().need("database_url")
    with say_database_errors():
        done = of_tenants.set_require_types(database_url, tenant, required=not off)
    if not done:
        typer.echo(f"There is no tenant {tenant!r}; `keys create --tenant {tenant}` makes one.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{tenant} takes {'all types' if off else 'the types in its catalogue only'}.")


def _database_url(tenant: str) -> str:
    if tenant == DEFAULT_TENANT:
        typer.echo("The default tenant's are settings; see BELLHOP_SECRET_KEY_PREVIOUS and BELLHOP_JWKS_URL.", err=True)
        raise typer.Exit(1)
    return find_stack().need("database_url")


def _say_outcome(done: bool, text: str, tenant: str) -> None:
    typer.echo(text if done else f"There is no tenant {tenant!r} with a secret of its own.", err=not done)
    raise typer.Exit(0 if done else 1)

"""`tenants create|list|delete`, `rotate-secret|end-rotation` and `set-…`: tenants, straight in the database."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import orjson
import typer
from pydantic import ValidationError

from models import tenants as of_tenants
from models.contracts import TenantIn, TenantPatch
from models.fields import explained
from ops.commands.database_errors import say_database_errors
from ops.running_stack import find_stack

tenants = typer.Typer(help="Tenants: how their user tokens are signed, and their own limits.", no_args_is_help=True)

Model = TypeVar("Model", TenantIn, TenantPatch)
Tenant = Annotated[str, typer.Argument(help="The tenant's name")]


@tenants.command()
def create(tenant: Tenant) -> None:
    """Create a tenant and print the secret of its user tokens: the only time that it is shown. Then make it a key."""
    wanted = _checked(TenantIn, {"id": tenant})
    database_url = find_stack().need("database_url")
    with say_database_errors():
        secret = of_tenants.create_tenant(database_url, wanted)
    typer.echo(f"Tenant {tenant} is there; `keys create --tenant {tenant}` lets a backend in. Its secret:", err=True)
    typer.echo(secret)


@tenants.command("list")
def list_all() -> None:
    """List all tenants. How the default one signs are settings: BELLHOP_SECRET_KEY and BELLHOP_JWKS_URL."""
    database_url = find_stack().need("database_url")
    with say_database_errors():
        rows = of_tenants.list_tenants(database_url)
    for row in rows:
        rotation = "  two secrets" if row["in_rotation"] else ""
        jwks = f"  keys from {row['jwks_url']}" if row["jwks_url"] else ""
        limit = f"  at most {row['ingest_per_s']:g}/s" if row["ingest_per_s"] else ""
        kept = f"  keeps {orjson.dumps(row['retention']).decode()}" if row["retention"] else ""
        types = "  registered types only" if row["require_types"] else ""
        typer.echo(f"{row['id']}  since {row['created_at']:%Y-%m-%d}{rotation}{jwks}{limit}{kept}{types}")


@tenants.command()
def rotate_secret(tenant: Tenant) -> None:
    """Sign with a new secret, and print it: the only time that it is shown. Every process knows it in 5 s.

    Tokens signed until now stay good until `end-rotation`.
    """
    secret = _changed(tenant, {"secret": "rotate"})
    typer.echo(f"{tenant} signs with a new secret; the one before is believed until `end-rotation`.", err=True)
    typer.echo(secret)


@tenants.command()
def end_rotation(tenant: Tenant) -> None:
    """Believe the secret before the last rotation no longer."""
    _change(tenant, {"secret": "end_rotation"}, f"{tenant} has one secret.")


@tenants.command()
def set_jwks(
    tenant: Tenant,
    url: Annotated[str, typer.Argument(help="Where its identity provider publishes its keys; without: nowhere")] = "",
) -> None:
    """Believe tokens that an identity provider signs, beside those with the tenant's own secret."""
    _change(tenant, {"jwks_url": url or None}, f"{tenant} believes {url or 'no provider'}.")


@tenants.command()
def set_limit(
    tenant: Tenant,
    per_s: Annotated[
        float, typer.Argument(help="Notifications and events, on average over 10 s; without: no limit")
    ] = 0,
) -> None:
    """Let all keys of a tenant together send no more than so much. The limit of each key holds beside it."""
    _change(tenant, {"ingest_per_s": per_s or None}, f"{tenant} may send {per_s:g}/s." if per_s else "No limit.")


@tenants.command()
def set_retention(
    tenant: Tenant,
    rules: Annotated[str, typer.Argument(help="As BELLHOP_INBOX_RETENTION; without: what that says")] = "",
) -> None:
    """Keep what is in its users' inboxes for as long as these rules say."""
    try:
        retention = orjson.loads(rules) if rules else None
    except orjson.JSONDecodeError as error:
        message = f"not valid JSON: {error}"
        raise typer.BadParameter(message, param_hint="RULES") from error
    _change(tenant, {"retention": retention}, f"{tenant} keeps {rules or 'what the settings say'}.")


@tenants.command()
def require_types(
    tenant: Tenant,
    *,
    off: Annotated[bool, typer.Option("--off", help="Take all types again")] = False,
) -> None:
    """Refuse notifications whose type is not in the tenant's catalogue; every process knows within a second."""
    which = "all types" if off else "the types in its catalogue only"
    _change(tenant, {"require_types": not off}, f"{tenant} takes {which}.")


@tenants.command()
def delete(tenant: Tenant) -> None:
    """Delete a tenant that has no data, and its keys."""
    database_url = find_stack().need("database_url")
    with say_database_errors():
        of_tenants.delete_tenant(database_url, tenant)
    typer.echo(f"There is no tenant {tenant} any more.")


def _change(tenant: str, values: dict[str, Any], text: str) -> None:
    _changed(tenant, values)
    typer.echo(text)


def _changed(tenant: str, values: dict[str, Any]) -> str | None:
    wanted = _checked(TenantPatch, values)
    database_url = find_stack().need("database_url")
    with say_database_errors():
        return of_tenants.change_tenant(database_url, tenant, wanted)


def _checked(model: type[Model], values: dict[str, Any]) -> Model:
    """End the command with status 2 and a line where REST would answer 422."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = [str(step) for step in wrong["loc"] if step != "[key]"]  # which marks a wrong name
        message = f"{'/'.join(place)}: {explained(wrong)}"
        raise typer.BadParameter(message) from error

"""`token USER`: a user token, minted here with the default tenant's secret."""

from __future__ import annotations

from typing import Annotated

import typer

from models.fields import MAX_TOKEN_TTL_S
from models.tenants import DEFAULT_TENANT
from models.tokens import mint_token
from ops.running_stack import RunningStack, find_stack


def token(
    user: Annotated[str, typer.Argument(help="The user's id")],
    ttl: Annotated[int, typer.Option(min=1, max=MAX_TOKEN_TTL_S, help="Seconds until it ends")] = 3600,
    tenant: str = DEFAULT_TENANT,
) -> None:
    """Mint a user token, as a backend would with POST /v1/tokens."""
    typer.echo(token_of(find_stack(), user, ttl_s=ttl, tenant=tenant))


def token_of(stack: RunningStack, user: str, *, ttl_s: int, tenant: str = DEFAULT_TENANT) -> str:
    """Return a token for a user; ends the command where the secret is not at hand."""
    if tenant != DEFAULT_TENANT:
        typer.echo(
            "Only the default tenant's secret is known here; ask POST /v1/tokens with a key of that tenant.", err=True
        )
        raise typer.Exit(1)
    signed, _ = mint_token(stack.need("secret_key"), tenant=tenant, user=user, ttl_s=ttl_s)
    return signed

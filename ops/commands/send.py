"""`send`: post one notification to the running API."""

from __future__ import annotations

import json
from typing import Annotated, Any

import httpx
import typer

from models.states import Priority  # noqa: TC001  # typer reads the annotations
from ops.running_stack import find_stack


def send(  # noqa: PLR0917  # one option per field of the request
    to: Annotated[str, typer.Option(help="The user's id; several with commas")],
    title: Annotated[str, typer.Option()],
    type_: Annotated[str, typer.Option("--type", help="domain.entity.action")] = "bellhop.hello.sent",
    priority: Annotated[Priority | None, typer.Option()] = None,
    body: Annotated[str | None, typer.Option()] = None,
    data: Annotated[str | None, typer.Option(help="A JSON object")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="BELLHOP_API_KEY", help="Without: the development key")] = None,
    api_url: Annotated[str | None, typer.Option(envvar="BELLHOP_API_URL")] = None,
) -> None:
    """Send one notification and print the answer."""
    users = [user for user in to.split(",") if user]
    request: dict[str, Any] = {"to": {"user": users[0]} if len(users) == 1 else {"users": users}}
    request |= {"type": type_, "title": title}
    request |= {"priority": priority.value} if priority else {}
    request |= {"body": body} if body is not None else {}
    request |= {"data": _object(data)} if data is not None else {}
    stack = find_stack()
    key = api_key or stack.need("api_key")
    try:
        response = httpx.post(
            f"{api_url or stack.api_url}/v1/notifications",
            json=request,
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=10,
        )
    except httpx.HTTPError as error:
        typer.echo(f"The API at {api_url or stack.api_url} does not answer: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(response.text.rstrip(), err=response.is_error)
    raise typer.Exit(1 if response.is_error else 0)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        message = f"is not JSON: {error}"
        raise typer.BadParameter(message, param_hint="--data") from None
    if not isinstance(value, dict):
        message = "must be a JSON object"
        raise typer.BadParameter(message, param_hint="--data")
    return value

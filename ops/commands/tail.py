"""`tail USER`: print a user's inbox live. Reconnects by itself and goes on where it stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any

import socketio
import typer

from ops.commands.token import token_of
from ops.running_stack import find_stack

_TOKEN_TTL_S = 3600
_PAUSES_S = (0.1, 0.5, 1.0, 2.0)
_REFUSALS = {"token_invalid", "unauthorized", "forbidden"}


def tail(
    user: Annotated[str, typer.Argument(help="The user's id")],
    since: Annotated[int | None, typer.Option(min=0, help="Print what came after this number first")] = None,
    socket_url: Annotated[str | None, typer.Option(envvar="BELLHOP_SOCKET_URL")] = None,
    user_token: Annotated[
        str | None, typer.Option("--token", envvar="BELLHOP_TOKEN", help="Without: minted here")
    ] = None,
) -> None:
    """Print a user's inbox live, one line per entry, until Ctrl-C."""
    first_token = user_token or token_of(find_stack(), user, ttl_s=_TOKEN_TTL_S)
    with suppress(KeyboardInterrupt):
        asyncio.run(_Tail(user, socket_url, since, first_token, minted=user_token is None).run())


class _Tail:
    """Follows one inbox over any number of connections; `_since` is the last number printed."""

    def __init__(self, user: str, socket_url: str | None, since: int | None, token: str, *, minted: bool) -> None:
        self._user = user
        self._socket_url = socket_url
        self._since = since
        self._token = token
        self._minted = minted
        self._greeted = False

    async def run(self) -> None:
        failures = 0
        while True:
            urls = (self._socket_url,) if self._socket_url else find_stack().socket_urls
            try:
                await self._follow(str(urls[failures % len(urls)]))
                failures = 0
                typer.echo("-- disconnected; reconnecting", err=True)
            except socketio.exceptions.ConnectionError as error:
                self._explain(error, first=failures == 0)
                failures += 1
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])

    async def _follow(self, url: str) -> None:
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        client.on("ready", self._on_ready)
        client.on("error", lambda error: typer.echo(f"-- refused: {error.get('detail')}", err=True))

        async def on_inbox(frame: dict[str, Any]) -> None:
            for entry in frame["entries"]:
                typer.echo(line_of(entry))
            self._since = frame["to"]
            with suppress(socketio.exceptions.SocketIOError):
                await client.emit("ack", {"seq": frame["to"]})

        client.on("inbox", on_inbox)
        auth: dict[str, Any] = {"token": self._fresh_token()}
        if self._since is not None:
            auth["since"] = self._since
        try:
            await client.connect(url, auth=auth, transports=["websocket"], wait_timeout=10)
            await client.wait()
        finally:
            await client.disconnect()

    def _fresh_token(self) -> str:
        return token_of(find_stack(), self._user, ttl_s=_TOKEN_TTL_S) if self._minted and self._greeted else self._token

    def _on_ready(self, frame: dict[str, Any]) -> None:
        counts = frame["counts"]
        again = "again " if self._greeted else ""
        note = "; too far behind, so older entries are not shown" if frame["reset"] and self._since is not None else ""
        typer.echo(
            f"-- {again}connected as {self._user}, from {frame['seq']} of {frame['head']}, "
            f"{counts['unread']} unread, {counts['unseen']} unseen{note}",
            err=True,
        )
        self._greeted = True
        self._since = frame["seq"]

    def _explain(self, error: Exception, *, first: bool) -> None:
        refusal = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        data = refusal.get("data", refusal)
        if isinstance(data, dict) and data.get("code") in _REFUSALS:
            typer.echo(f"Refused: {data.get('detail')}", err=True)
            raise typer.Exit(1)
        if first:
            typer.echo(f"-- cannot connect ({error}); trying until it works", err=True)


def line_of(entry: dict[str, Any]) -> str:
    """Return one log entry as one readable line."""
    if entry["kind"] == "arrival":
        item = entry["item"]
        body = f": {item['body']}" if item.get("body") else ""
        line = f"#{entry['seq']} {item['created_at']} [{item['priority']}] {item['type']}  {item['title']}{body}"
    else:
        which = f"up to #{entry['up_to']}" if entry.get("up_to") is not None else _numbers(entry.get("seqs") or [])
        line = f"#{entry['seq']} {entry['at']} {entry['action']} {which}"
    return " ".join(line.split())


def _numbers(seqs: list[int]) -> str:
    return ", ".join(f"#{seq}" for seq in seqs)

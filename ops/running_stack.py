"""Finds the stack that commands talk to: the environment first, then the `dev.json` of a running `python -m ops up`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from models.settings import SettingsError, load_settings
from ops.ports import reachable_host

if TYPE_CHECKING:
    from models.settings import Settings


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What is known of it; anything unknown is empty."""

    database_url: str
    redis_url: str
    secret_key: str
    api_url: str
    socket_urls: tuple[str, ...]
    api_key: str
    sources: dict[str, str]

    def need(self, name: str) -> str:
        """Return a value, or end the command with a line that says how to provide it."""
        value = str(getattr(self, name))
        if not value:
            variable = f"BELLHOP_{name.upper()}"
            typer.echo(
                f"No {variable} is set and no stack runs here; start one with `make run`, or set {variable}.", err=True
            )
            raise typer.Exit(1)
        return value


def settings_or_exit() -> Settings:
    """Read the settings; a wrong one is said and ends the command with status 2."""
    try:
        return load_settings()
    except SettingsError as error:
        typer.echo(f"Bellhop cannot start with these settings:\n{error}", err=True)
        raise typer.Exit(2) from None


def find_stack() -> RunningStack:
    """Merge the environment and `dev.json`."""
    settings = settings_or_exit()
    found = _dev_json(settings)
    secret = settings.secret_key.get_secret_value()
    chosen = {"database_url": settings.database_url, "redis_url": settings.redis_url, "secret_key": secret}
    sources = {
        name: "environment" if value else "dev.json" if found.get(name) else "not set" for name, value in chosen.items()
    }
    host = reachable_host(settings.host)
    return RunningStack(
        **{name: value or found.get(name, "") for name, value in chosen.items()},
        api_url=found.get("api_url") or f"http://{host}:{settings.api_port}",
        socket_urls=tuple(found.get("socket_urls") or [f"http://{host}:{settings.socket_port}"]),
        api_key=found.get("api_key", ""),
        sources=sources,
    )


def _dev_json(settings: Settings) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((settings.data_dir / "dev.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        typer.echo(f"{settings.data_dir / 'dev.json'} cannot be read: {error}", err=True)
        raise typer.Exit(1) from None
    return found

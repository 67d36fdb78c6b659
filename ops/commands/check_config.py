"""`check-config`: say what every setting is and where from, and whether the servers behind it can be used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
import typer
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from models import migrate
from ops.running_stack import RunningStack, find_stack, settings_or_exit

if TYPE_CHECKING:
    from models.settings import Settings

_OLDEST_POSTGRES = 16
_OLDEST_REDIS = 7


def check_config() -> None:
    """Print all settings with their sources, and check the servers. Status 1 where something is wrong."""
    settings, stack = settings_or_exit(), find_stack()
    for name in type(settings).model_fields:
        typer.echo(f"{'BELLHOP_' + name.upper():<34} {_shown(settings, stack, name)}")
    typer.echo()
    results = [_check_postgres(stack.database_url), _check_redis(stack.redis_url)]
    if settings.bus_url:
        results.append(_check_redis(settings.bus_url, "the bus, "))
    if settings.env == "production" and not settings.flower_basic_auth.get_secret_value():
        results.append((False, "Flower: BELLHOP_FLOWER_BASIC_AUTH is not set; in production anyone could see it"))
    for good, said in results:
        typer.echo(f"{'ok   ' if good else 'WRONG'} {said}")
    raise typer.Exit(0 if all(good for good, _ in results) else 1)


def _shown(settings: Settings, stack: RunningStack, name: str) -> str:
    value = getattr(settings, name)
    source = "environment" if f"BELLHOP_{name.upper()}" in os.environ else "default"
    if name in stack.sources:
        value, source = getattr(stack, name), stack.sources[name]
    if name == "secret_key" or isinstance(value, SecretStr):
        hidden = value.get_secret_value() if isinstance(value, SecretStr) else value
        value = f"******** ({len(hidden)} characters)" if hidden else ""
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"{_without_password(str(value)) or '(empty)'}   [{source}]"


def _without_password(text: str) -> str:
    parts = urlsplit(text) if "://" in text else None
    if parts is None or not parts.password:
        return text
    name, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{name.partition(':')[0]}:********@{host}"))


def _check_postgres(url: str) -> tuple[bool, str]:
    if not url:
        return False, "Postgres: no URL is set and no stack runs here"
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            version = connection.info.server_version // 10_000
        current, head = migrate.current_and_head(url)
    except (psycopg.Error, SQLAlchemyError) as error:
        return False, f"Postgres: {error}".strip()
    if version < _OLDEST_POSTGRES:
        return False, f"Postgres: version {version} is too old; {_OLDEST_POSTGRES} or newer is needed"
    if current != head:
        return False, f"Postgres {version}: schema at {current or 'nothing'}, not {head}; run `python -m ops migrate`"
    return True, f"Postgres {version}, schema at {head}"


def _check_redis(url: str, which: str = "") -> tuple[bool, str]:
    if not url:
        return False, "Redis: no URL is set and no stack runs here"
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5, decode_responses=True) as client:
            info = client.info("server")
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "")
    except redis.ResponseError:
        policy = ""  # hosted ones often forbid CONFIG
    except (redis.RedisError, ValueError) as error:
        return False, f"{which}Redis: {error}"
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    name = which + name
    if int(str(version).partition(".")[0]) < _OLDEST_REDIS:
        return False, f"{name}: version {version} is too old; Redis 7 or Valkey 8 is needed"
    if policy and policy != "noeviction":
        return False, f"{name} {version}: maxmemory-policy is {policy}, and must be noeviction: hints would get lost"
    return True, f"{name} {version}"

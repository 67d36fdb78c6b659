"""Settings of every process, read once from `BELLHOP_*` variables at the composition root and frozen.

Nothing else in the project reads the environment. A wrong value stops the start with a message that names the variable.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import orjson
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.retention import Kept, KeptByRoom, KeptByType, KeptItems

Port = Annotated[int, Field(ge=0, le=65535)]
MINIMUM_SECRET_LENGTH = 32


class SettingsError(Exception):
    """The environment holds a value that Bellhop cannot start with; the text names each variable."""


class Settings(BaseSettings):
    """All settings, with their defaults. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="BELLHOP_", frozen=True, extra="ignore")

    env: Literal["development", "production"] = "development"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    data_dir: Path = Path(".bellhop")

    database_url: str = Field("", description="postgresql://…; empty: `python -m ops up` starts an embedded server")
    redis_url: str = Field("", description="redis://…; empty: `python -m ops up` starts an embedded server")
    bus_url: str = Field("", description="redis://… for pushes and presence alone; empty: the same as redis_url")
    secret_key: SecretStr = Field(SecretStr(""), description="Signs user tokens of the default tenant (HS256)")

    secret_key_previous: SecretStr = Field(
        SecretStr(""), description="Still believed while BELLHOP_SECRET_KEY is being changed"
    )
    jwks_url: str = Field("", description="Where the default tenant's identity provider publishes its keys (https)")
    jwks_allow_private: bool = Field(
        default=False, description="Whether JWKS URLs may be http, or lead to addresses inside the network"
    )

    host: str = "127.0.0.1"
    api_port: Port = 8000
    socket_port: Port = 8001
    flower_port: Port = 5555
    metrics_port: Port = Field(0, description="Where a worker or beat serves /metrics; 0: nowhere")
    socket_nodes: int = Field(1, ge=1, le=64, description="How many socket nodes `python -m ops up` starts")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated origins that may use the APIs from a browser; `*` for any"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1",), description="Addresses whose X-Forwarded-For is believed"
    )
    flower_basic_auth: SecretStr = Field(
        SecretStr(""), description="user:password; `check-config` misses it in production"
    )

    database_pool_size: int = Field(8, ge=1, le=200, description="Connections per API or socket process")
    dispatch_batch: int = Field(500, ge=1, le=10_000, description="Outbox rows claimed by one transaction")
    dispatch_budget_s: float = Field(2.0, gt=0, le=60)
    dispatch_linger_s: float = Field(
        0.5, ge=0, le=10, description="How long an idle dispatcher waits for more before its task ends"
    )
    dispatch_attempts: int = Field(5, ge=1, le=100, description="Tries before a row is parked")
    sweep_interval_s: float = Field(1.0, gt=0, le=60)
    trim_interval_s: float = Field(5.0, gt=0, le=3600, description="How often what is not kept any more is removed")
    head_check_interval_s: float = Field(2.0, gt=0, le=60)
    node_heartbeat_s: float = Field(2.0, gt=0, le=60)
    node_ttl_s: float = Field(9.0, gt=0, le=300, description="When a node that says nothing counts as gone")
    presence_grace_s: float = Field(
        5.0, ge=0, le=60, description="How long a user who left still counts as online, to come back unnoticed"
    )
    ack_flush_interval_s: float = Field(0.5, gt=0, le=60)
    token_warning_s: float = Field(
        60.0, ge=0, le=3600, description="How long before its token ends a connection is told; at most half of the rest"
    )
    token_grace_s: float = Field(5.0, ge=0, le=300, description="How long after that it is closed")
    ingest_per_s: float = Field(
        20_000.0, ge=0, description="Notifications and room events per API key, on average over 10 s; 0: no limit"
    )
    outbox_limit: int = Field(
        1_000_000, ge=0, description="Past so many that are due of a priority, no more of it is accepted; 0: no limit"
    )
    sockets_per_user: int = Field(50, ge=0, description="Over all nodes; 0: no limit")
    connects_per_address_per_s: float = Field(
        50.0, ge=0, description="New connections from one address to one node, ten seconds' worth at once; 0: no limit"
    )
    user_events_per_s: float = Field(
        500.0, ge=0, description="Client events per user over all nodes, on average over 10 s; 0: no limit"
    )
    client_events_per_s: float = Field(100.0, gt=0, description="Sustained client events per connection")
    client_events_burst: int = Field(200, ge=1)
    room_retention: Annotated[KeptByRoom, NoDecode] = Field(
        {"*": Kept()},
        description='JSON by room, or by its beginning and *: {"shop:order:*": {"events": 1000, "age_s": 604800}}',
    )
    inbox_retention: Annotated[KeptByType, NoDecode] = Field(
        {"*": KeptItems()},
        description='JSON by type, or by its beginning and *: {"shop.*": {"items": 1000, "age_s": 7776000}}',
    )
    retention_round_s: float = Field(
        3600.0, gt=0, le=7 * 24 * 3600, description="At most so often each inbox is looked at for what is too old"
    )
    balance_window_s: int = Field(
        3600,
        ge=0,
        le=7 * 24 * 3600,
        description="What was accepted within this time is looked at again and again: is it where it must be? 0: never",
    )
    push_retention_s: int = Field(
        7 * 24 * 3600,
        ge=0,
        le=10 * 365 * 24 * 3600,
        description="For how long it is known to which nodes something went; 0: not at all",
    )
    room_frame_interval_s: float = Field(
        0.02, ge=0, le=1, description="What happens in a room within this time after a frame goes out as one more frame"
    )
    rooms_per_connection: int = Field(200, ge=1, le=10_000)
    emitter_key: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._:-]{0,64}$",
        description="`socket.io` or another key of a Redis adapter of Socket.IO, whose emitters may then reach users",
    )
    drain_s: float = Field(5.0, ge=0, le=120, description="Over how long a stopping socket node sends clients away")

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("room_retention", "inbox_retention", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        try:
            return orjson.loads(value) if isinstance(value, str) else value
        except orjson.JSONDecodeError as error:
            msg = f"is not valid JSON: {error}"
            raise ValueError(msg) from error

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path):
                msg = f"{origin!r} is not an origin; write it like https://app.example.com"
                raise ValueError(msg)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if address != "*":
                ipaddress.ip_network(address)
        return value

    @field_validator("flower_basic_auth")
    @classmethod
    def _flower_has_user_and_password(cls, value: SecretStr) -> SecretStr:
        user, colon, password = value.get_secret_value().partition(":")
        if value.get_secret_value() and not (user and colon and password):
            msg = "must be written user:password"
            raise ValueError(msg)
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_postgres(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"postgresql", "postgres"}:
            msg = "must start with postgresql://"
            raise ValueError(msg)
        return value

    @field_validator("jwks_url")
    @classmethod
    def _jwks_is_a_url(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).hostname):
            msg = "must be a URL like https://id.example.com/.well-known/jwks.json"
            raise ValueError(msg)
        return value

    @field_validator("redis_url", "bus_url")
    @classmethod
    def _redis_is_redis(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in {"redis", "rediss", "valkey", "valkeys"}:
            msg = "must start with redis:// or rediss://"
            raise ValueError(msg)
        return value.replace("valkey", "redis", 1) if value.startswith("valkey") else value

    @model_validator(mode="after")
    def _production_is_complete(self) -> Self:
        secret = self.secret_key.get_secret_value()
        for name, value in (("", secret), ("_PREVIOUS", self.secret_key_previous.get_secret_value())):
            if value and len(value) < MINIMUM_SECRET_LENGTH:
                msg = f"BELLHOP_SECRET_KEY{name} must have at least {MINIMUM_SECRET_LENGTH} characters"
                raise ValueError(msg)
        if self.node_ttl_s <= self.node_heartbeat_s:
            msg = "BELLHOP_NODE_TTL_S must be longer than BELLHOP_NODE_HEARTBEAT_S"
            raise ValueError(msg)
        if self.env == "production":
            missing = [
                name
                for name, value in (
                    ("BELLHOP_DATABASE_URL", self.database_url),
                    ("BELLHOP_REDIS_URL", self.redis_url),
                    ("BELLHOP_SECRET_KEY", secret),
                )
                if not value
            ]
            if missing:
                msg = f"in production these must be set: {', '.join(missing)}"
                raise ValueError(msg)
        return self

    @property
    def bus(self) -> str:
        """The URL of the Redis through which pushes go and in which presence stands."""
        return self.bus_url or self.redis_url

    def require_servers(self) -> Self:
        """Return the settings unchanged, or raise `SettingsError` when a process has no database, Redis or secret."""
        absent = [
            name
            for name, value in (
                ("BELLHOP_DATABASE_URL", self.database_url),
                ("BELLHOP_REDIS_URL", self.redis_url),
                ("BELLHOP_SECRET_KEY", self.secret_key.get_secret_value()),
            )
            if not value
        ]
        if absent:
            msg = f"{', '.join(absent)} must be set (or start everything with `make run`, which sets them)"
            raise SettingsError(msg)
        return self


def load_settings(**overrides: object) -> Settings:
    """Read and check the environment. Raises `SettingsError` with one line per wrong variable."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # the overrides are validated like the environment
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = "_".join(str(part) for part in problem["loc"])
            name = f"BELLHOP_{where.upper()}: " if where else ""
            lines.append(f"{name}{problem['msg'].removeprefix('Value error, ')}")
        raise SettingsError("\n".join(lines)) from error

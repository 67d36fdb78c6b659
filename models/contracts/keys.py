"""Who may call: user tokens and API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from models.contracts.base import Answer, Message
from models.fields import MAX_TOKEN_TTL_S, Domain, Grants, LanguageTag, Name, Text
from models.states import Scope


class TokenIn(Message):
    """Asks for a user token. `ttl` is in seconds.

    `rooms` and `watch` are grants: names, or beginnings of names followed by `*`. `locale` is the language that the
    user is told things in from when they come with the token, where their preferences name none.
    """

    user: Name
    """Whose device it is for."""
    ttl: Annotated[int, Field(strict=True, ge=1, le=MAX_TOKEN_TTL_S)] = 3600
    """How many seconds it is good for, 30 days at most."""
    rooms: Grants = Field(default=[])
    """Which rooms they may join."""
    watch: Grants = Field(default=[])
    """Whose presence they may watch."""
    locale: LanguageTag | None = None
    """Such as `uk` or `pt-BR`."""


class TokenOut(Answer):
    """A signed user token."""

    token: str
    expires_at: datetime


class KeyIn(Message):
    """Asks for an API key. Empty `domains`: any domain."""

    name: Annotated[Text, StringConstraints(min_length=1, max_length=100)]
    """What it is for, for people."""
    scopes: Annotated[list[Scope], Field(min_length=1)]
    """What it may do; `admin` may do everything in its tenant."""
    domains: list[Domain] = Field(default=[], max_length=100)
    """The only ones that it may write to and see."""


class KeyOut(Answer):
    """An API key without its secret."""

    id: str
    """By which it is revoked; part of the key."""
    name: str
    scopes: list[Scope]
    domains: list[str]
    created_at: datetime
    revoked_at: datetime | None
    """Null while it is good."""


class KeyCreated(KeyOut):
    """A new API key. `key` is shown this once."""

    key: str


class KeyList(Answer):
    """The tenant's keys, newest first."""

    keys: list[KeyOut]

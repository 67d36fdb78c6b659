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
    ttl: Annotated[int, Field(strict=True, ge=1, le=MAX_TOKEN_TTL_S)] = 3600
    rooms: Grants = Field(default=[])
    watch: Grants = Field(default=[])
    locale: LanguageTag | None = None


class TokenOut(Answer):
    """A signed user token."""

    token: str
    expires_at: datetime


class KeyIn(Message):
    """Asks for an API key. Empty `domains`: any domain."""

    name: Annotated[Text, StringConstraints(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    domains: list[Domain] = Field(default=[], max_length=100)


class KeyOut(Answer):
    """An API key without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    domains: list[str]
    created_at: datetime
    revoked_at: datetime | None


class KeyCreated(KeyOut):
    """A new API key. `key` is shown this once."""

    key: str


class KeyList(Answer):
    """The tenant's keys, newest first."""

    keys: list[KeyOut]

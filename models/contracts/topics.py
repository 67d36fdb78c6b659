"""Who is told what is sent to a topic."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from models.contracts.base import Answer, Message
from models.fields import MAX_USERS, Name, Text, Users


class Subscribers(Message):
    """Up to 1,000 users who are to be told what is sent to a topic, or no longer."""

    model_config = ConfigDict(json_schema_extra={"example": {"users": ["u_1", "u_2"]}})

    users: Users
    """Their ids."""


class Subscriber(Message):
    """One line of an import as NDJSON."""

    model_config = ConfigDict(json_schema_extra={"example": {"user": "u_1"}})

    user: Name
    """Their id."""


class RejectedLine(Answer):
    """What is wrong with one line of an import; lines count from 1."""

    line: int
    """From 1; empty lines count."""
    detail: str


class SubscribersOut(Answer):
    """How many were subscribed who were not, or unsubscribed who were; of an import, also the lines that were wrong."""

    topic: str
    changed: int
    """Who was not as wanted before."""
    rejected: int = 0
    """How many lines of an import were wrong."""
    errors: list[RejectedLine] = Field(default_factory=list)
    """The first 50 of them."""


class SubscribersQuery(Message):
    """Which page of a topic's subscribers: those after the name `after`, in the order of names."""

    after: Annotated[Text, StringConstraints(max_length=128)] = ""
    """The `next_after` of the last answer."""
    limit: Annotated[int, Field(ge=1, le=MAX_USERS)] = 100
    """How many on a page, at most."""


class SubscribersPage(Answer):
    """Some of a topic's subscribers. `next_after` is null on the last page."""

    topic: str
    users: list[str]
    next_after: str | None

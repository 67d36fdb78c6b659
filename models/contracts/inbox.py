"""A user's inbox: its list, its log, and what is done to it. Sockets say the same."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from models.contracts.base import Answer, Message
from models.fields import MAX_LOG_PAGE, MAX_PAGE, MAX_SEQ, MAX_SEQS, Domain, EntrySeq, Seq, TypeName
from models.states import Action, ListStatus, Priority


class Counts(Answer):
    """How many deliveries of an inbox wait. Archived and deleted ones do not count."""

    unread: int
    unseen: int


class DomainCounts(Counts):
    """Counts, and the same by domain; domains with neither are left out."""

    domains: dict[str, Counts]


class Item(Answer):
    """One delivery as its user sees it."""

    seq: int
    id: UUID
    type: str
    domain: str
    priority: Priority
    title: str
    body: str
    data: dict[str, Any]
    action_url: str | None
    actor: dict[str, Any] | None
    collapse_key: str | None
    collapsed: int
    silent: bool
    created_at: datetime
    seen_at: datetime | None
    read_at: datetime | None
    archived_at: datetime | None
    expires_at: datetime | None


class ArrivalEntry(Answer):
    """An inbox entry: something arrived."""

    seq: int
    kind: Literal["arrival"]
    item: Item


class ChangeEntry(Answer):
    """An inbox entry: deliveries changed, either those in `seqs` or all up to `up_to`."""

    seq: int
    kind: Literal["change"]
    action: Action
    seqs: list[int] | None = None
    up_to: int | None = None
    at: datetime


Entry = Annotated[ArrivalEntry | ChangeEntry, Field(discriminator="kind")]


class InboxPage(Answer):
    """A page of an inbox list, newest first. `seq` is the inbox's head at that moment."""

    items: list[Item]
    next_before: int | None
    counts: Counts
    seq: int


class LogPage(Answer):
    """A page of the inbox log. It accounts for every number from `from` to `to`."""

    from_: int = Field(alias="from")
    to: int
    head: int
    reset: bool
    entries: list[Entry]
    counts: Counts


class ItemPatch(Message):
    """New state of one delivery; what is left out stays. `read: true` also marks as seen."""

    read: Annotated[bool, Field(strict=True)] | None = None
    seen: Literal[True] | None = None
    archived: Annotated[bool, Field(strict=True)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.read is None and self.seen is None and self.archived is None:
            raise PydanticCustomError("empty_patch", "must have at least one of read, seen and archived")
        return self

    def actions(self) -> list[Action]:
        """Return the actions that lead to the wanted state, in order."""
        wanted: list[Action] = []
        if self.seen and not self.read:
            wanted.append(Action.SEEN)
        if self.read is not None:
            wanted.append(Action.READ if self.read else Action.UNREAD)
        if self.archived is not None:
            wanted.append(Action.ARCHIVE if self.archived else Action.UNARCHIVE)
        return wanted


class ActionIn(Message):
    """Does one action to some deliveries, or to all up to a number: exactly one of `seqs` and `up_to`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": "read", "seqs": [58]}]})

    action: Action
    seqs: Annotated[list[EntrySeq], Field(min_length=1, max_length=MAX_SEQS)] | None = None
    up_to: Seq | None = None

    @model_validator(mode="after")
    def _seqs_or_up_to(self) -> Self:
        if (self.seqs is None) == (self.up_to is None):
            raise PydanticCustomError("seqs_or_up_to", "must have exactly one of seqs and up_to")
        return self


class ActionOut(Answer):
    """The inbox after an action. `changed` counts deliveries; 0 left no entry."""

    seq: int
    changed: int
    counts: Counts


class InboxQuery(Message):
    """What `GET /v1/inbox` may filter by. `before` pages backwards from a number."""

    status: ListStatus = ListStatus.ACTIVE
    domain: Domain | None = None
    type: TypeName | None = None
    priority: Priority | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20
    before: Annotated[int, Field(ge=1, le=MAX_SEQ)] | None = None


class LogQuery(Message):
    """What `GET /v1/inbox/log` takes."""

    since: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_LOG_PAGE)] = MAX_LOG_PAGE

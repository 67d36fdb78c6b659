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
    """Its number in the inbox."""
    id: UUID
    """Of the notification."""
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
    """How many others it stands for."""
    silent: bool
    """It came in quiet hours: do not ring."""
    created_at: datetime
    seen_at: datetime | None
    """Null: not yet."""
    read_at: datetime | None
    """Null: unread."""
    archived_at: datetime | None
    """Null: it is not."""
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
    """`delete` also for what was recalled, expired, collapsed or is kept no longer."""
    seqs: list[int] | None = None
    up_to: int | None = None
    at: datetime


Entry = Annotated[ArrivalEntry | ChangeEntry, Field(discriminator="kind")]


class InboxPage(Answer):
    """A page of an inbox list, newest first. `seq` is the inbox's head at that moment."""

    items: list[Item]
    next_before: int | None
    """The `before` of the next page; null on the last."""
    counts: Counts
    """Of the whole inbox, whatever the filter."""
    seq: int


class LogPage(Answer):
    """A page of the inbox log. It accounts for every number from `from` to `to`."""

    from_: int = Field(alias="from")
    to: int
    head: int
    """The last number there is."""
    reset: bool
    """What comes after `since` is no longer kept: read the list anew."""
    entries: list[Entry]
    counts: Counts


class ItemPatch(Message):
    """New state of one delivery; what is left out stays. `read: true` also marks as seen."""

    read: Annotated[bool, Field(strict=True)] | None = None
    """True also marks it as seen."""
    seen: Literal[True] | None = None
    """It cannot be taken back."""
    archived: Annotated[bool, Field(strict=True)] | None = None
    """Out of the list of what is `active`, or back."""

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
    """What to do."""
    seqs: Annotated[list[EntrySeq], Field(min_length=1, max_length=MAX_SEQS)] | None = None
    """The numbers of the deliveries."""
    up_to: Seq | None = None
    """All whose number is not greater."""

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
    """`active`: not archived; `all`: archived, too."""
    domain: Domain | None = None
    """Those of this domain."""
    type: TypeName | None = None
    """Those of this type."""
    priority: Priority | None = None
    """Those of this priority."""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20
    """How many on a page, at most."""
    before: Annotated[int, Field(ge=1, le=MAX_SEQ)] | None = None
    """The `next_before` of the last answer."""


class LogQuery(Message):
    """What `GET /v1/inbox/log` takes."""

    since: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    """The number that is held already."""
    limit: Annotated[int, Field(ge=1, le=MAX_LOG_PAGE)] = MAX_LOG_PAGE
    """How many entries, at most."""

"""What the load generator needs to know of a stack under test, and nothing of how that stack came to run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


ROOMS = "bench:"  # how the names of all measured rooms begin


class StackError(Exception):
    """A stack under test does not start, does not answer, or ended; the text says which and why."""


class Wire(Enum):
    """What a stack says on its sockets."""

    NUMBERED = "numbered"  # Bellhop: `ready`, then `inbox` frames of numbered entries, acknowledged up to a number
    PLAIN = "plain"  # one `notification` event each, acknowledged by callback where the server asks for it


@dataclass(frozen=True, slots=True)
class Backstage:
    """What only Bellhop's own scenarios use: the REST API as a user reaches it, and the servers behind it."""

    api_url: str
    database_url: str
    redis_url: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Broadcasting:
    """How a stack speaks to a room: events are posted, and reach as `room` events who has sent `join {room}`."""

    url: Callable[[str], str]  # where a room's events are posted
    token_of: Callable[[str], str]  # a user's token that lets it join every room below `ROOMS`


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One running stack. All its addresses are on this machine's loopback."""

    label: str
    wire: Wire
    single_url: str
    bulk_url: str
    socket_urls: tuple[str, ...]
    headers: dict[str, str]
    token_of: Callable[[str], str]
    recipient: Callable[[str], dict[str, Any]]  # the fields of a request that say for which user it is
    pids: Callable[[], dict[str, int]]  # asked before and after each run: a supervisor may have restarted something
    backstage: Backstage | None = None
    broadcasting: Broadcasting | None = None

"""What is read of rooms, by REST and by sockets alike. Concurrent reads share one query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models import frames
from models.batching import Batcher
from models.pages import RoomPage, grouped
from models.queries import rooms as sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.database import Database

_BATCH = 256  # heads in one query
_ROWS = 5_000  # entries in one query


@dataclass(frozen=True, slots=True)
class RoomHead:
    """Where a room's log stands. What is not after `floor` is no longer kept; both are 0 before the first event."""

    head: int
    floor: int


class RoomStore:
    """All reads of rooms."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.head = Batcher[tuple[str, str], RoomHead](self.heads, limit=_BATCH, lanes=2)
        self._page = Batcher[tuple[str, str, int, int], RoomPage](
            self._pages, limit=_ROWS, lanes=2, weight=lambda asked: asked[3]
        )

    async def heads(self, rooms: Sequence[tuple[str, str]]) -> list[RoomHead]:
        """Return where the logs of `(tenant, room)`s stand, in one query and in that order."""
        asked = [{"ord": nth, "tenant": tenant, "name": room} for nth, (tenant, room) in enumerate(rooms)]
        rows = await self._database.rows(sql.ROOM_HEADS, {"asked": frames.dumps(asked).decode()})
        return [RoomHead(row["head"], row["floor"]) for row in sorted(rows, key=lambda row: int(row["ord"]))]

    async def page(self, tenant: str, room: str, since: int, size: int) -> RoomPage:
        """Return the entries after `since`, at most `size` of them. Raises `UnavailableError`."""
        return await self._page((tenant, room, since, size))

    async def _pages(self, asked: Sequence[tuple[str, str, int, int]]) -> list[RoomPage]:
        questions = [
            {"ord": nth, "tenant": tenant, "name": room, "since": since, "size": size}
            for nth, (tenant, room, since, size) in enumerate(asked)
        ]
        rows = await self._database.rows(sql.ROOM_LOG_PAGES, {"asked": frames.dumps(questions).decode()})
        return [
            RoomPage(room, since, size, found)
            for (_, room, since, size), found in zip(asked, grouped(len(asked), rows), strict=True)
        ]

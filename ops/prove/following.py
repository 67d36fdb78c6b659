"""What a device follows besides its inbox: the events of some rooms, and the presence of some users.

Rooms and watched users belong to a connection: after each welcome it joins again from the number that it holds, and
watches again, until it is answered. Invariant: a room's copy has no gaps, but where more was said than a room keeps.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ops.prove.alarm import ViolationError
from ops.prove.target import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ops.prove.connection import Connection

_ANSWER_S = 8.0
_AGAIN_S = 0.5
PASSING = {"unavailable", "rate_limited"}  # refusals that are no violation: the client tries again


@dataclass(slots=True)
class RoomCopy:
    """A room's log, kept by applying frames."""

    name: str
    seq: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, since: int, answer: dict[str, Any]) -> None:
        """Go on from where a `join` was answered to. Raises `ViolationError` where that leaves something out."""
        seq, reset = answer["seq"], answer["reset"]
        if reset and seq - since > KEPT:
            self.entries.clear()
            self.seq = seq
        elif reset or seq != since:
            msg = f"joined {self.name} from {since}, and is told to go on from {seq}, reset: {reset}"
            raise ViolationError(msg)

    def apply(self, frame: dict[str, Any]) -> None:
        """Apply a `room` frame. Raises `ViolationError` where it does not follow."""
        numbers = [entry["seq"] for entry in frame["entries"]]
        if frame["from"] != self.seq + 1 or numbers != list(range(frame["from"], frame["to"] + 1)):
            msg = f"a frame of {self.name}, {frame['from']} to {frame['to']} with {numbers}, after {self.seq}"
            raise ViolationError(msg)
        self.entries += frame["entries"]
        self.seq = frame["to"]


class Following:
    """One device's rooms and watched users, over all its connections."""

    def __init__(self, rooms: Sequence[str], watched: Sequence[str], *, away: bool) -> None:
        self.rooms = {name: RoomCopy(name) for name in rooms}
        self.statuses: dict[str, str] = {}
        self.away = away
        self._watched = list(watched)
        self._settled: Connection | None = None

    def is_settled(self, connection: Connection | None) -> bool:
        """Whether it has joined and watches everything on this connection."""
        return connection is not None and connection is self._settled

    async def begin(self, connection: Connection) -> None:
        """Join, watch and say whether somebody is there, on a connection that was just welcomed."""
        for room in self.rooms.values():
            if not await self._join(connection, room):
                return
        watch = {"users": self._watched}
        if self._watched and await self._ask(connection, "watch", watch, self._take_statuses) is None:
            return
        if self.away and await self._ask(connection, "status", {"status": "away"}) is None:
            return
        self._settled = connection

    async def _join(self, connection: Connection, room: RoomCopy) -> bool:
        """Join a room from where its copy is; False where the connection is lost. Raises `ViolationError`."""
        since = room.seq

        def begin(answer: dict[str, Any]) -> None:
            if answer.get("ok"):
                room.begin(since, answer)

        return await self._ask(connection, "join", {"room": room.name, "since": since}, begin) is not None

    def _take_statuses(self, answer: dict[str, Any]) -> None:
        if answer.get("ok"):
            self.statuses = {user: seen["status"] for user, seen in answer["users"].items()}

    async def _ask(
        self,
        connection: Connection,
        event: str,
        payload: dict[str, Any],
        at_once: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any] | None:
        """Ask until it is answered; None where the connection is lost first. Raises `ViolationError`."""
        while not connection.over:
            answer = await connection.ask(event, payload, _ANSWER_S, at_once)
            if answer is not None and answer.get("ok"):
                return answer
            if answer is not None and answer["error"]["code"] not in PASSING:
                msg = f"{event} {payload} was answered {answer}"
                raise ViolationError(msg)
            if answer is None:
                connection.abort()  # a client cannot know what became of it: it comes back and asks again
                return None
            await asyncio.sleep(_AGAIN_S)
        return None

    def take_room(self, frame: dict[str, Any]) -> None:
        """Apply a `room` frame. Raises `ViolationError`."""
        if frame["room"] not in self.rooms:
            msg = f"got a frame of {frame['room']}, which it has not joined"
            raise ViolationError(msg)
        self.rooms[frame["room"]].apply(frame)

    async def taken_out(self, connection: Connection, name: str) -> None:
        """Join a room again that the connection was taken out of. Raises `ViolationError`."""
        await self._join(connection, self.rooms[name])

    def take_presence(self, frame: dict[str, Any]) -> None:
        """Note somebody's presence. Raises `ViolationError`."""
        if frame["user"] not in self._watched:
            msg = f"is told of {frame['user']}, whom it does not watch"
            raise ViolationError(msg)
        self.statuses[frame["user"]] = frame["status"]

"""A device of one of the cast: a real Socket.IO client, as an app holds it open.

It acknowledges what it gets, now and then marks it as read, and joins rooms as they come up. When its connection is
lost it comes back by itself, to its inbox and to its rooms, from the last numbers that it holds.

Invariant: of each log, it holds everything from where it began up to its number; whatever does not follow is a fault.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import socketio

from ops.demo.backend import DemoError
from ops.demo.ledger import NOTIFICATION, Arrival, event_key
from ops.demo.screen import Line

if TYPE_CHECKING:
    import random

    from ops.demo.backend import Backend
    from ops.demo.cast import Person
    from ops.demo.ledger import Ledger

_TOKEN_TTL_S = 24 * 3600
_WAIT_S = 10
_PATIENCE_S = 60.0
_PAUSE_S = 0.5
_MOST_ROOMS = 100  # those spoken of lately; a server lets a connection have twice as many
_READS = 0.12  # of all frames that come, after this share everything is marked as read


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose device it is, what it is called, and the domains whose rooms it may join."""

    person: Person
    label: str
    domains: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the device is shown; no other has the same."""
        return f"{self.person.first_name}, {self.label}"

    @property
    def grants(self) -> list[str]:
        """The rooms that its token is for."""
        return [f"{domain}:*" for domain in self.domains]


class Device:
    """One device, from `connect` to `close`."""

    def __init__(self, owner: Owner, url: str, backend: Backend, ledger: Ledger, generator: random.Random) -> None:
        self.owner = owner
        self._url = url
        self._backend = backend
        self._ledger = ledger
        self._generator = generator
        self._client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self._seq: int | None = None
        # Each with the last number that came, None while it is joined; least recently spoken of first.
        self._rooms: dict[str, int | None] = {}
        self._staying: asyncio.Task[None] | None = None
        self._ready, self._lost = asyncio.Event(), asyncio.Event()
        self._client.on("disconnect", lambda _reason: self._lost.set())
        self._client.on("ready", self._on_ready)
        self._client.on("inbox", self._on_inbox)
        self._client.on("room", self._on_room)
        self._client.on("error", self._on_error)

    # --- being there -----------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect, and stay connected. Raises `DemoError` where that does not work at all."""
        try:
            await self._connect()
            async with asyncio.timeout(_WAIT_S):
                await self._ready.wait()  # only what is posted from here on is sure to come
        except (socketio.exceptions.ConnectionError, TimeoutError) as error:
            msg = f"{self.owner.name} cannot connect to {self._url}: {error}"
            raise DemoError(msg) from error
        self._staying = asyncio.create_task(self._stay())

    async def close(self) -> None:
        """Disconnect."""
        if self._staying:
            self._staying.cancel()
            await asyncio.gather(self._staying, return_exceptions=True)
        await self._client.disconnect()

    async def _connect(self) -> None:
        token = await self._backend.token(self.owner.person.id, self.owner.grants, _TOKEN_TTL_S)
        auth = {"token": token} if self._seq is None else {"token": token, "since": self._seq}
        await self._client.connect(self._url, auth=auth, transports=["websocket"], wait_timeout=_WAIT_S)

    async def _stay(self) -> None:
        while True:
            await self._lost.wait()  # not `client.wait()`, which takes a cancellation for itself
            await asyncio.sleep(_PAUSE_S)
            self._lost.clear()
            try:
                await self._connect()
                for room in list(self._rooms):
                    if self._rooms.get(room) is not None:  # else somebody is just about to join it, or has left it
                        await self._join(room)
            except (socketio.exceptions.SocketIOError, DemoError):
                await self._client.disconnect()
                self._lost.set()

    # --- rooms -----------------------------------------------------------------------------------------------

    async def follow(self, room: str) -> bool:
        """Be in a room, if this device may. Returns whether it is. Raises `DemoError`."""
        if room.partition(":")[0] not in self.owner.domains:
            return False
        if room in self._rooms:
            self._rooms[room] = self._rooms.pop(room)  # the one that was spoken of last
            return True
        self._rooms[room] = None
        await self._until_joined(room)
        if len(self._rooms) > _MOST_ROOMS:
            oldest = next(iter(self._rooms))
            del self._rooms[oldest]
            await self._tell("leave", {"room": oldest})
        return True

    async def _until_joined(self, room: str) -> None:
        patient_until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                await self._join(room)
            except socketio.exceptions.SocketIOError as error:
                if time.monotonic() > patient_until:
                    msg = f"{self.owner.name} cannot join {room}: {error}"
                    raise DemoError(msg) from error
                await asyncio.sleep(_PAUSE_S)  # it may be about to connect again
            else:
                return

    async def _join(self, room: str) -> None:
        since = self._rooms[room]
        wanted = {"room": room} if since is None else {"room": room, "since": since}
        answer = await self._client.call("join", wanted, timeout=_WAIT_S)
        if not answer["ok"]:
            raise socketio.exceptions.SocketIOError(answer["error"]["detail"])
        if answer["reset"] or self._rooms.get(room) is None:
            self._rooms[room] = answer["seq"]

    # --- what comes ------------------------------------------------------------------------------------------

    def _on_ready(self, frame: dict[str, Any]) -> None:
        self._seq = frame["seq"]
        self._ready.set()

    async def _on_inbox(self, frame: dict[str, Any]) -> None:
        # Everything up to the first await happens in the order in which frames came.
        at = time.monotonic()
        self._seq = self._follows("the inbox", self._seq, frame)
        for entry in frame["entries"]:
            if entry["kind"] == "arrival":
                item = entry["item"]
                line = Line.of_item(item, self.owner.name)
                self._ledger.arrived(Arrival((NOTIFICATION, item["id"]), self.owner.name, at, line))
            else:
                self._ledger.changed(Line.of_change(entry, self.owner.name, frame["counts"]["unread"]))
        await self._tell("ack", {"seq": frame["to"]})
        if self._generator.random() < _READS:
            await self._tell("act", {"action": "read", "up_to": frame["to"]})

    def _on_room(self, frame: dict[str, Any]) -> None:
        at, room = time.monotonic(), frame["room"]
        if room not in self._rooms:
            return  # it was left while this was on its way
        self._rooms[room] = self._follows(room, self._rooms[room], frame)
        for entry in frame["entries"]:
            key = event_key(room, entry["seq"])
            self._ledger.arrived(Arrival(key, self.owner.name, at, Line.of_event(room, entry)))

    def _on_error(self, frame: dict[str, Any]) -> None:
        self._ledger.faults.append(f"{self.owner.name} was refused {frame['event']}: {frame['detail']}")

    def _follows(self, log: str, last: int | None, frame: dict[str, Any]) -> int:
        """Book a frame, and return the number that is held after it."""
        self._ledger.frames += 1
        if last is not None and frame["from"] != last + 1:
            self._ledger.faults.append(f"{self.owner.name}: {log} went from {last} to {frame['from']}")
        return int(frame["to"])

    async def _tell(self, event: str, payload: dict[str, Any]) -> None:
        with suppress(socketio.exceptions.SocketIOError):  # nothing is lost: it says it again when it is back
            await self._client.emit(event, payload)

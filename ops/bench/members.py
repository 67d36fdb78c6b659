"""The receiving side of a room: connections that have joined it, at a microsecond or so of ours for each frame.

All members are told the same bytes, so only the first frame of each content is decoded, and the others are recognised
by their bytes: nothing is taken on trust, and tens of thousands of frames per second leave room on the core for the
stack that sends them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from ops.bench.attendance import Said
from ops.bench.endpoint import ROOMS, StackError, Wire
from ops.bench.sockets import Crowd, Device, NumberedDevice, PlainDevice

if TYPE_CHECKING:
    import picows

    from ops.bench.attendance import Attendance
    from ops.bench.endpoint import Endpoint
    from ops.bench.recorder import InboxOrder

_ROOM_EVENT = b'42["room",'
_JOINING_AT_ONCE = 64


class Members(Crowd):
    """All members of a new room. Their number is that of the books."""

    def __init__(self, endpoint: Endpoint, prefix: str, attendance: Attendance) -> None:
        """Raise `StackError` where the stack has no rooms."""
        super().__init__(endpoint, prefix, {})
        if endpoint.broadcasting is None:
            msg = f"{endpoint.label} has no rooms"
            raise StackError(msg)
        self.broadcasting = endpoint.broadcasting
        self.room = f"{ROOMS}{secrets.token_hex(4)}"
        self.attendance = attendance
        self.heard: dict[bytes, Said] = {}

    def token_of(self, user: str) -> str:
        """Return a token that grants the room."""
        return self.broadcasting.token_of(user)

    def new_device(self, number: int, token: str, order: InboxOrder | None) -> Device:
        """Return a member that has not joined yet."""
        kind = _NumberedMember if self.endpoint.wire is Wire.NUMBERED else _PlainMember
        return kind(self, number, token, order)

    async def join(self, members: int) -> None:
        """Let all join the room. Raises `StackError`."""
        gate = asyncio.Semaphore(_JOINING_AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                answer, _ = await self.device(number).ask("join", {"room": self.room})
            if not answer.get("ok"):
                msg = f"{self.endpoint.label} let nobody into {self.room}: {answer}"
                raise StackError(msg)
            self.attendance.joined(number, answer.get("seq"))

        await asyncio.gather(*(one(number) for number in range(members)))

    def hear(self, packet: bytes) -> Said:
        """Decode a packet of the room that is not known yet."""
        said = self.heard[packet] = Said.in_packet(packet)
        return said


class _Member(Device):
    """A connection that notes what its room says, and leaves everything else to the kind of client that it is."""

    def __init__(self, members: Members, number: int, token: str, order: InboxOrder | None) -> None:
        super().__init__(members, number, token, order)
        self._members = members
        self._attendance = members.attendance

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Time one message, and note it where the room says something."""
        at = time.perf_counter()
        packet = frame.get_payload_as_bytes()
        said = self._members.heard.get(packet)
        if said is None:
            if not packet.startswith(_ROOM_EVENT):
                super().on_ws_frame(transport, frame)
                return
            said = self._members.hear(packet)
        self._attendance.frame(self.number, said, at)


class _NumberedMember(_Member, NumberedDevice):
    """Of a Bellhop room."""


class _PlainMember(_Member, PlainDevice):
    """Of any Socket.IO room."""

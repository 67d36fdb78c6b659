"""What waits for one client to read: it knows how much that is, and nothing waits that can be written at once.

It refuses nothing, because Engine.IO puts its own packets here too; whoever pushes asks first whether there is room.
Invariant: packets leave in the order in which they were put.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from engineio.packet import MESSAGE, Packet

from socket_server.websocket import text_frame

MOST_PACKETS = 256
MOST_BYTES = 1024 * 1024
_END_S = 5.0  # for a client to read what it was sent before it is closed


class Wire(Protocol):
    """A WebSocket, as far as writing goes."""

    def write_frame(self, frame: bytes) -> bool:
        """Write a WebSocket frame at once; False where the client has to read something first."""

    async def until_writable(self) -> bool:
        """Wait until the client has read enough; False where it is gone."""

    async def end(self) -> None:
        """Close."""

    def abort(self) -> None:
        """Close at once, whatever was not written."""


class Prepared:
    """A Socket.IO packet that goes to many clients: encoded once."""

    __slots__ = ("frame", "packet")

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.frame = text_frame(b"4" + packet)


class Outgoing(asyncio.Queue[Any]):
    """Engine.IO packets (None ends the connection). A long poll takes them from here; a WebSocket is written to.

    A task per connection that waits for packets would cost more than most packets do. So there is one only while a
    client is too slow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting_bytes = 0
        self._wire: Wire | None = None
        self._draining: asyncio.Task[None] | None = None

    def write_to(self, wire: Wire) -> None:
        """From now on write to `wire`, what waits first."""
        waiting = [self.get_nowait() for _ in range(self.qsize())]
        self._wire = wire
        for item in waiting:
            self.task_done()
            self.put_nowait(item)

    def send(self, message: bytes) -> None:
        """Put an encoded Socket.IO packet."""
        if self._draining is not None or self._wire is None or not self._wire.write_frame(text_frame(b"4" + message)):
            self._queue_up(Packet(MESSAGE, message.decode()))

    def send_prepared(self, message: Prepared) -> None:
        """Put a packet that others get too."""
        if self._draining is not None or self._wire is None or not self._wire.write_frame(message.frame):
            self._queue_up(Packet(MESSAGE, message.packet.decode()))

    def put_nowait(self, item: Packet | None) -> None:
        """Put an Engine.IO packet, or None to end the connection when everything before it is written."""
        written = (
            item is not None
            and self._draining is None
            and self._wire is not None
            and self._wire.write_frame(_frame_of(item))
        )
        if not written:
            self._queue_up(item)

    def _queue_up(self, item: Packet | None) -> None:
        super().put_nowait(item)
        if item is None and self._wire is not None:
            asyncio.get_running_loop().call_later(_END_S, self._wire.abort)
        if self._wire is not None and self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        wire = self._wire
        try:
            while wire is not None and not self.empty():
                if not await wire.until_writable():
                    return
                item = self.get_nowait()
                self.task_done()
                if item is None:
                    await wire.end()
                    return
                wire.write_frame(_frame_of(item))
        finally:
            self._draining = None

    def _put(self, item: Any) -> None:  # noqa: ANN401  # the library's packets have no type
        super()._put(item)
        self.waiting_bytes += _size(item)

    def _get(self) -> Any:  # noqa: ANN401
        item = super()._get()
        self.waiting_bytes -= _size(item)
        return item

    def full_to(self, share: float) -> bool:
        """Return whether more than `share` (0 to 1) of what may wait is waiting."""
        return self.waiting_bytes > 0 and (
            self.qsize() >= MOST_PACKETS * share or self.waiting_bytes >= MOST_BYTES * share
        )


def _frame_of(item: Packet) -> bytes:
    encoded = item.encode()
    return text_frame(encoded.encode() if isinstance(encoded, str) else encoded)


def _size(item: Any) -> int:  # noqa: ANN401
    return len(item.data) if item is not None and isinstance(item.data, str | bytes) else 0

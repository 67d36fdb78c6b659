"""One connection of a device: the few messages of Engine.IO and Socket.IO that it needs, spoken by hand.

Invariant: it tells its owner once that it is lost, whether or not it was ever welcomed, and nothing after that.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import picows

from ops.prove.silent_proxy import abort

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

_TEXT = picows.WSMsgType.TEXT
_ENGINE_OPEN, _ENGINE_CLOSE, _ENGINE_PING = b"0", b"1", b"2"
_CONNECT, _LEFT, _EVENT, _ANSWER, _REFUSED = b"40", b"41", b"42", b"43", b"44"


class Owner(Protocol):
    """What a connection reports to."""

    def auth(self) -> dict[str, Any]:
        """Return what to connect with."""

    def event(self, connection: Connection, name: str, payload: dict[str, Any]) -> None:
        """Take an event."""

    def refused(self, connection: Connection, reason: dict[str, Any]) -> None:
        """Take a `connect_error`."""

    def lost(self, connection: Connection) -> None:
        """Learn that the connection is over."""


class Connection(picows.WSListener):
    """Reads until it is lost. `heard_at`, monotonic, is when the last message came."""

    def __init__(self, owner: Owner) -> None:
        self.heard_at = time.monotonic()
        self.ready = False
        self.over = False
        self.opened = False
        self.reads = True
        self.settled = asyncio.Event()  # it was welcomed, or is over
        self._owner = owner
        self._transport: picows.WSTransport | None = None
        self._questions: dict[int, Future[dict[str, Any] | None]] = {}
        self._at_once: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._asked = 0

    # --- in --------------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Keep the transport, unless it comes too late."""
        self.opened = True
        if self.over:
            abort(transport.underlying_transport)
        else:
            self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Read one message."""
        if self.over:
            return
        self.heard_at = time.monotonic()
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.disconnect()
            return
        raw = frame.get_payload_as_bytes()
        if raw.startswith(_EVENT):
            name, *payload = orjson.loads(raw[len(_EVENT) :])
            self._owner.event(self, name, payload[0] if payload else {})
        elif raw.startswith(_ANSWER):
            self._answered(raw[len(_ANSWER) :])
        elif raw.startswith(_ENGINE_PING):
            transport.send(_TEXT, b"3" + raw[1:])
        elif raw.startswith(_ENGINE_OPEN):
            transport.send(_TEXT, _CONNECT + orjson.dumps(self._owner.auth()))
        elif raw.startswith(_REFUSED):
            self._owner.refused(self, orjson.loads(raw[len(_REFUSED) :]))
        elif raw.startswith((_LEFT, _ENGINE_CLOSE)):
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002  # picows names it
        """Be over."""
        self._be_over()

    def _answered(self, raw: bytes) -> None:
        begin = raw.index(b"[")
        number = int(raw[:begin])
        question = self._questions.pop(number, None)
        if question is not None and not question.done():
            answer = orjson.loads(raw[begin:])[0]
            if at_once := self._at_once.get(number):
                at_once(answer)
            question.set_result(answer)

    def be_ready(self) -> None:
        """Note that it was welcomed."""
        self.ready = True
        self.settled.set()

    def _be_over(self) -> None:
        if self.over:
            return
        self.over = True
        self.settled.set()
        self._transport = None
        for question in self._questions.values():
            if not question.done():
                question.set_result(None)
        self._questions.clear()
        self._owner.lost(self)

    # --- out -------------------------------------------------------------------------------------------------

    def tell(self, name: str, payload: dict[str, Any]) -> None:
        """Send an event."""
        if self._transport:
            self._transport.send(_TEXT, _EVENT + orjson.dumps([name, payload]))

    async def ask(
        self,
        name: str,
        payload: dict[str, Any],
        timeout_s: float,
        at_once: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any] | None:
        """Send an event and return its answer; None where none comes in time, or ever.

        `at_once` gets the answer before any event that follows it; whoever awaits it may get it after some.
        """
        if self._transport is None:
            return None
        self._asked += 1
        number = self._asked
        question = self._questions[number] = asyncio.get_running_loop().create_future()
        if at_once:
            self._at_once[number] = at_once
        self._transport.send(_TEXT, b"%b%d%b" % (_EVENT, number, orjson.dumps([name, payload])))
        try:
            async with asyncio.timeout(timeout_s):
                answer: dict[str, Any] | None = await question
                return answer
        except TimeoutError:
            return None
        finally:
            self._questions.pop(number, None)
            self._at_once.pop(number, None)

    # --- what befalls it -------------------------------------------------------------------------------------

    @property
    def port(self) -> int | None:
        """The local port."""
        name = self._transport and self._transport.underlying_transport.get_extra_info("sockname")
        return int(name[1]) if name else None

    def abort(self) -> None:
        """Break it at once, with a reset."""
        if self._transport:
            abort(self._transport.underlying_transport)
        self._be_over()

    def close(self) -> None:
        """End it as a client does that leaves."""
        if self._transport:
            self._transport.disconnect()

    def stop_reading(self) -> None:
        """Leave what comes in the kernel's buffers until they are full."""
        self.reads = False
        if self._transport:
            self._transport.underlying_transport.pause_reading()

    def read_again(self) -> None:
        """Undo `stop_reading`."""
        self.reads = True
        if self._transport and not self._transport.underlying_transport.is_closing():
            self._transport.underlying_transport.resume_reading()

"""One of a user's devices: it holds copies of what it follows, and comes back from wherever it was.

It keeps its last numbers in memory, reconnects with `since` after any loss, and checks every frame as it comes: it must
begin where the last one ended, on whichever connection that was. Its tokens end soon, and it exchanges them in time.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import picows

from ops.prove.alarm import ViolationError
from ops.prove.connection import Connection
from ops.prove.following import PASSING, Following
from ops.prove.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.prove.clients import Crowd
    from ops.prove.silent_proxy import SilentProxy

_PATH = "/socket.io/?EIO=4&transport=websocket"
_HANDSHAKE_S = 10.0
_WELCOME_S = 20.0  # `ready` waits for Postgres, however long that is away; another node may be luckier
_AGAIN_S = (0.1, 1.5)
_ACK_AFTER_S = 0.25
_REFRESH_S = 8.0
# Buffers that are full soon when their client stops reading; with small segments the kernel keeps little on both sides.
_NARROW_BYTES, _NARROW_SEGMENT = 4096, 536
# The token may end before it was exchanged, where the node was frozen: the client comes back with a new one.
_LOSSES = {"token_expired", "slow_consumer"}


class Device:
    """One of a user's devices, over all its connections."""

    def __init__(self, crowd: Crowd, user: str, following: Following, *, narrow: bool) -> None:
        self.user = user
        self.following = following
        self.replica = Replica()
        self.counts: dict[str, int] = {}
        self.connection: Connection | None = None
        self.narrow = narrow
        self.proxy: SilentProxy | None = None
        self.avoids_proxies = False
        self._crowd = crowd
        self._lost = asyncio.Event()
        self._may_live = asyncio.Event()
        self._may_live.set()
        self._acking: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> bool:
        """Whether it is connected and welcomed."""
        return self.connection is not None and self.connection.ready

    @property
    def reads(self) -> bool:
        """Whether it is ready, and takes what comes."""
        return self.connection is not None and self.connection.ready and self.connection.reads

    async def live(self) -> None:
        """Be connected, for ever."""
        while True:
            await self._may_live.wait()
            self._lost.clear()
            connection = self.connection = Connection(self)
            try:
                await self._connect(connection)
                async with asyncio.timeout(_WELCOME_S):
                    await connection.settled.wait()
                await self._lost.wait()
            except (OSError, picows.WSError):  # a TimeoutError is an OSError
                connection.abort()
            self._crowd.losses += connection.ready and not self._crowd.leaving and not self.gone
            await asyncio.sleep(self._crowd.generator.uniform(*_AGAIN_S))

    async def _connect(self, connection: Connection) -> None:
        url, self.proxy = self._crowd.way(direct=self.avoids_proxies)
        async with asyncio.timeout(_HANDSHAKE_S):
            await picows.ws_connect(
                lambda: connection,
                url.replace("http", "ws", 1) + _PATH,
                socket_factory=_narrow_socket if self.narrow else None,
            )
        if not connection.opened:  # picows returns without an error where the server hangs up on the handshake
            raise ConnectionResetError

    # --- what a connection reports ---------------------------------------------------------------------------

    def auth(self) -> dict[str, Any]:
        """Say who this is, and what it has."""
        return {"token": self._crowd.short_token(self.user), "since": self.replica.seq}

    def event(self, connection: Connection, name: str, payload: dict[str, Any]) -> None:
        """Check an event and apply it."""
        try:
            match name:
                case "inbox":
                    self._take(connection, payload)
                case "ready":
                    self._begin(connection, payload)
                case "room":
                    self._require_ready(connection, name)
                    self.following.take_room(payload)
                    self._crowd.frames += 1
                case "presence":
                    self._require_ready(connection, name)
                    self.following.take_presence(payload)
                    self._crowd.changes += 1
                case "expiring":
                    self._crowd.alarm.start(self._refresh(connection), f"refresh {self.user}")
                case "error" if payload.get("code") == "room_reset":
                    self._crowd.alarm.start(self._rejoin(connection, payload["room"]), f"rejoin {self.user}")
                case "error" if payload.get("code") not in PASSING | _LOSSES:
                    self._fail(f"was told of an error: {payload}")
        except ViolationError as error:
            self._crowd.alarm.ring(ViolationError(f"{self._name}: {error}"))
        except (KeyError, TypeError) as error:
            self._crowd.alarm.ring(ViolationError(f"{self._name}: {name} is not as the contract says: {error!r}"))

    def _take(self, connection: Connection, frame: dict[str, Any]) -> None:
        self._require_ready(connection, "inbox")
        self.replica.apply(frame)
        self.counts = frame["counts"]
        self._crowd.frames += 1
        if self._acking is None:
            self._acking = asyncio.get_running_loop().call_later(_ACK_AFTER_S, self._acknowledge)

    def _require_ready(self, connection: Connection, name: str) -> None:
        if not connection.ready:
            self._fail(f"got {name!r} before `ready`")

    def _begin(self, connection: Connection, ready: dict[str, Any]) -> None:
        if ready["reset"] or ready["seq"] != self.replica.seq:
            self._fail(f"holds {self.replica.seq} and is told to go on from {ready['seq']}, reset: {ready['reset']}")
        if ready["user"] != self.user:
            self._fail(f"is welcomed as {ready['user']}")
        connection.be_ready()
        self.counts = ready["counts"]
        self._crowd.connects += 1
        self._crowd.alarm.start(self._follow(connection), f"follow {self.user}")

    async def _follow(self, connection: Connection) -> None:
        with self._named():
            await self.following.begin(connection)

    async def _rejoin(self, connection: Connection, room: str) -> None:
        with self._named():
            await self.following.taken_out(connection, room)

    async def _refresh(self, connection: Connection) -> None:
        """Exchange the token. Where that is not answered, the connection ends with it, and another one begins."""
        answer = await connection.ask("refresh", {"token": self._crowd.short_token(self.user)}, _REFRESH_S)
        if answer is None or not answer.get("ok"):
            if answer is not None and answer["error"]["code"] not in PASSING | _LOSSES:
                msg = f"{self._name}: a new token was answered {answer}"
                raise ViolationError(msg)
            return
        self._crowd.refreshes += 1

    def refused(self, connection: Connection, reason: dict[str, Any]) -> None:
        """Come again later, where that is what the refusal means."""
        if reason.get("data", {}).get("code") not in PASSING | _LOSSES:
            self._crowd.alarm.ring(ViolationError(f"{self._name} was refused: {reason}"))
        connection.abort()

    def lost(self, connection: Connection) -> None:
        """Reconnect."""
        if connection is self.connection:
            self._lost.set()

    def _acknowledge(self) -> None:
        self._acking = None
        if self.connection is not None and self.connection.ready:
            self.connection.tell("ack", {"seq": self.replica.seq})

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ViolationError as error:
            msg = f"{self._name}: {error}"
            raise ViolationError(msg) from error

    @property
    def _name(self) -> str:
        return f"a device of {self.user} that holds {self.replica.seq}"

    def _fail(self, what: str) -> None:
        raise ViolationError(what)

    # --- what befalls it -------------------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Whether it stays away."""
        return not self._may_live.is_set()

    def go(self) -> None:
        """Disconnect as a client does, and stay away."""
        self._may_live.clear()
        self.leave()

    def come_back(self) -> None:
        """Undo `go`."""
        self._may_live.set()

    def drop(self) -> None:
        """Lose the connection, and come back."""
        if self.connection is not None:
            self.connection.abort()

    def leave(self) -> None:
        """Disconnect as a client does."""
        if self._acking is not None:
            self._acking.cancel()
        if self.connection is not None:
            self.connection.close()


def _narrow_socket(_: Any) -> socket.socket:  # noqa: ANN401  # picows' parsed URL
    narrow = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    narrow.setblocking(False)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BYTES)
    narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _NARROW_SEGMENT)
    return narrow

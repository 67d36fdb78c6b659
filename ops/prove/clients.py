"""The receiving side: devices that hold a copy of their user's inbox and come back from wherever they were.

Each keeps its last number in memory, reconnects with `since` after any loss, and checks every frame as it comes: it
must begin where the last one ended, on whichever connection that was.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import TYPE_CHECKING, Any

import picows

from ops.prove.alarm import ViolationError
from ops.prove.connection import Connection
from ops.prove.replica import Replica

if TYPE_CHECKING:
    from ops.prove.alarm import Alarm
    from ops.prove.silent_proxy import SilentProxy
    from ops.prove.target import Target

_PATH = "/socket.io/?EIO=4&transport=websocket"
_HANDSHAKE_S = 10.0
_WELCOME_S = 20.0  # `ready` waits for Postgres, however long that is away; another node may be luckier
_AGAIN_S = (0.1, 1.5)
_ACK_AFTER_S = 0.25
_SILENCE_S = 50.0  # Engine.IO pings every 25 s and waits 20 s for the answer: past both, nobody is there
_LOOK_S = 1.0
# Buffers that are full soon when their client stops reading; with small segments the kernel keeps little on both sides.
_NARROW_BYTES, _NARROW_SEGMENT = 4096, 536
_PASSING = {"unavailable", "rate_limited"}  # refusals that are no violation: the client tries again


class Device:
    """One of a user's devices, over all its connections."""

    def __init__(self, crowd: Crowd, user: str, *, narrow: bool) -> None:
        self.user = user
        self.replica = Replica()
        self.counts: dict[str, int] = {}
        self.connection: Connection | None = None
        self.narrow = narrow
        self.proxy: SilentProxy | None = None
        self.avoids_proxies = False
        self._crowd = crowd
        self._lost = asyncio.Event()
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
            self._lost.clear()
            connection = self.connection = Connection(self)
            try:
                await self._connect(connection)
                async with asyncio.timeout(_WELCOME_S):
                    await connection.settled.wait()
                await self._lost.wait()
            except (OSError, picows.WSError):  # a TimeoutError is an OSError
                connection.abort()
            self._crowd.losses += connection.ready and not self._crowd.leaving
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
        return {"token": self._crowd.token(self.user), "since": self.replica.seq}

    def event(self, connection: Connection, name: str, payload: dict[str, Any]) -> None:
        """Check an event and apply it."""
        try:
            match name:
                case "inbox":
                    self._take(connection, payload)
                case "ready":
                    self._begin(connection, payload)
                case "error" if payload.get("code") not in _PASSING:
                    self._fail(f"was told of an error: {payload}")
        except ViolationError as error:
            self._crowd.alarm.ring(ViolationError(f"{self._name}: {error}"))
        except (KeyError, TypeError) as error:
            self._crowd.alarm.ring(ViolationError(f"{self._name}: {name} is not as the contract says: {error!r}"))

    def _take(self, connection: Connection, frame: dict[str, Any]) -> None:
        if not connection.ready:
            self._fail("got an `inbox` frame before `ready`")
        self.replica.apply(frame)
        self.counts = frame["counts"]
        self._crowd.frames += 1
        if self._acking is None:
            self._acking = asyncio.get_running_loop().call_later(_ACK_AFTER_S, self._acknowledge)

    def _begin(self, connection: Connection, ready: dict[str, Any]) -> None:
        if ready["reset"] or ready["seq"] != self.replica.seq:
            self._fail(f"holds {self.replica.seq} and is told to go on from {ready['seq']}, reset: {ready['reset']}")
        if ready["user"] != self.user:
            self._fail(f"is welcomed as {ready['user']}")
        connection.be_ready()
        self.counts = ready["counts"]
        self._crowd.connects += 1

    def refused(self, connection: Connection, reason: dict[str, Any]) -> None:
        """Come again later, where that is what the refusal means."""
        if reason.get("data", {}).get("code") not in _PASSING:
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

    @property
    def _name(self) -> str:
        return f"a device of {self.user} that holds {self.replica.seq}"

    def _fail(self, what: str) -> None:
        raise ViolationError(what)

    # --- what befalls it -------------------------------------------------------------------------------------

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


class Crowd:
    """All devices."""

    def __init__(self, target: Target, alarm: Alarm, proxies: list[SilentProxy], seed: int) -> None:
        self.alarm = alarm
        self.generator = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self.devices: list[Device] = []
        self.proxies = proxies
        self.proxied = 0.0  # the share of connections that goes through a proxy
        self.leaving = False
        self.connects = self.losses = self.frames = 0
        self._target = target
        self._tokens: dict[str, str] = {}
        self._lives: list[asyncio.Task[Any]] = []

    def enter(self, user: str, devices: int) -> None:
        """Let a user's devices begin to live."""
        for nth in range(devices):
            device = Device(self, user, narrow=nth == 0)
            self.devices.append(device)
            self._lives.append(self.alarm.start(device.live(), f"a device of {user}"))

    def watch(self) -> None:
        """Begin to look for connections that have gone silent."""
        self._lives.append(self.alarm.start(self._notice_silence(), "notice silence"))

    async def _notice_silence(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            limit = time.monotonic() - _SILENCE_S
            for device in self.devices:
                if device.connection is not None and device.connection.heard_at < limit:
                    device.avoids_proxies = True
                    device.drop()

    def token(self, user: str) -> str:
        """Return a token for a user."""
        if user not in self._tokens:
            self._tokens[user] = self._target.endpoint.token_of(user)
        return self._tokens[user]

    def way(self, *, direct: bool) -> tuple[str, SilentProxy | None]:
        """Choose a node, and whether to go to it through its proxy."""
        node = self.generator.randrange(len(self._target.socket_urls))
        if not direct and self.generator.random() < self.proxied:
            return self.proxies[node].url, self.proxies[node]
        return self._target.socket_urls[node], None

    async def leave(self) -> None:
        """Let all devices go away."""
        self.leaving = True
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        for device in self.devices:
            device.leave()


def _narrow_socket(_: Any) -> socket.socket:  # noqa: ANN401  # picows' parsed URL
    narrow = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    narrow.setblocking(False)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BYTES)
    narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _NARROW_SEGMENT)
    return narrow

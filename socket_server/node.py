"""One socket node: what happens when clients connect, send and leave, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import secrets
from typing import TYPE_CHECKING, Any

import structlog

from models import telemetry
from models.background import end
from models.errors import (
    BellhopError,
    RateLimitedError,
    TokenInvalidError,
    UnavailableError,
)
from models.frames import dumps, event_packet
from models.outage import Outage
from models.socket_events import Handshake
from socket_server.events import checked
from socket_server.rate import TokenBucket
from socket_server.registry import Connection

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from models.quotas import Quotas
    from models.settings import Settings
    from models.token_locales import TokenLocales
    from models.token_verifier import TokenVerifier
    from socket_server.announcer import Announcer
    from socket_server.bus import Bus
    from socket_server.crowding import Crowding
    from socket_server.delivery import Delivery
    from socket_server.emitters import Emitters
    from socket_server.events import ClientEvents
    from socket_server.lifetimes import Lifetimes
    from socket_server.presence import Presence
    from socket_server.reaper import Reaper
    from socket_server.receipts import Receipts
    from socket_server.registry import Registry
    from socket_server.replay import Replay
    from socket_server.rooms import Rooms
    from socket_server.server import Server
    from socket_server.watching import Watching

log = structlog.get_logger(__name__)

_REFUSALS_PER_S = 10.0  # sustained; past a burst of _REFUSALS_AT_ONCE the connection is closed
_REFUSALS_AT_ONCE = 200
_SLICE_S = 0.05


class Node:
    """Handles the server's connections; started and stopped by the lifespan."""

    def __init__(  # noqa: PLR0913  # the composition root hands over each part by name
        self,
        *,
        settings: Settings,
        name: str,
        server: Server,
        registry: Registry,
        announcer: Announcer,
        replay: Replay,
        delivery: Delivery,
        rooms: Rooms,
        presence: Presence,
        watching: Watching,
        reaper: Reaper,
        receipts: Receipts,
        events: ClientEvents,
        buses: Sequence[Bus],
        emitters: Emitters | None,
        tokens: TokenVerifier,
        token_locales: TokenLocales,
        lifetimes: Lifetimes,
        crowding: Crowding,
        user_events: Quotas,
    ) -> None:
        self._settings = settings
        self.name = name
        self._server = server
        self._registry = registry
        self._announcer = announcer
        self._replay = replay
        self._delivery = delivery
        self._rooms = rooms
        self._presence = presence
        self._watching = watching
        self._reaper = reaper
        self._receipts = receipts
        self._events = events
        self._buses = buses
        self._emitters = emitters
        self._tokens = tokens
        self._token_locales = token_locales
        self._lifetimes = lifetimes
        self._crowding = crowding
        self._user_events = user_events
        self._tasks: list[asyncio.Task[None]] = []
        self._check_now = asyncio.Event()
        self._sockets = telemetry.sockets.labels(name)
        self.draining = False
        server.handler = self

    # --- connections -----------------------------------------------------------------------------------------

    async def connect(self, eio_sid: str, _environ: dict[str, Any], auth: object) -> Connection:
        """Check a handshake. Raises `BellhopError`."""
        try:
            self._require_not_draining()
            handshake = _handshake(auth)
            token = await self._tokens.verify(handshake.token)
            await self._crowding.require_room(token)
            self._tokens.revocations.require_still_valid(token)
            self._require_not_draining()
            transport = self._server.eio.sockets.get(eio_sid)
            if transport is None:
                raise UnavailableError
        except BellhopError as error:
            telemetry.refusals.labels(self.name, error.code).inc()
            raise
        connection = Connection(
            eio_sid=eio_sid,
            session=secrets.token_urlsafe(12),
            token=token,
            transport=transport,
            since=handshake.since,
            events=TokenBucket(self._settings.client_events_per_s, self._settings.client_events_burst),
            refusals=TokenBucket(_REFUSALS_PER_S, _REFUSALS_AT_ONCE),
        )
        self._registry.add(connection)
        self._presence.arrived(connection)
        self._sockets.set(len(self._registry))
        return connection

    def _require_not_draining(self) -> None:
        if self.draining:
            detail = "This node is going away; connect again"
            raise UnavailableError(detail)

    def connected(self, connection: Connection) -> None:
        """Start the stream of a connection whose CONNECT packet is on its way."""
        self._lifetimes.begin(connection)
        self._delivery.begin(connection)
        self._token_locales.note(connection.token)
        log.debug("connected", user=connection.token.user, session=connection.session, since=connection.since)

    def disconnected(self, eio_sid: str) -> None:
        """Forget a connection."""
        connection = self._registry.remove(eio_sid)
        if connection is None:
            return
        connection.closed = True
        self._lifetimes.end(connection)
        connection.inbox.close()
        self._rooms.forget(connection)
        self._watching.forget(connection)
        self._presence.left(connection)
        self._sockets.set(len(self._registry))
        log.debug("disconnected", user=connection.token.user, session=connection.session)

    # --- events ----------------------------------------------------------------------------------------------

    async def event(self, connection: Connection, name: str, arguments: list[Any]) -> dict[str, Any]:
        """Answer a client event. Raises `BellhopError`."""
        async with connection.turn:  # a client that polls may send several at once
            await self._take_token(connection)
            if not await self._replay.has_room(connection):  # answers, too, wait for a client that does not read
                return {}
            return await self._events.answer(connection, name, arguments)

    async def _take_token(self, connection: Connection) -> None:
        """Let the event through, or raise `RateLimitedError`."""
        wait_s = connection.events.take()
        if wait_s:
            settings = self._settings
            detail = f"At most {settings.client_events_per_s:g} events a second, {settings.client_events_burst} at once"
            raise RateLimitedError(detail, retry_in_ms=math.ceil(wait_s * 1000))
        verdict = await self._user_events.take(connection.key)
        if not verdict.allowed:
            detail = f"At most {self._settings.user_events_per_s:g} events a second on all of a user's connections"
            raise RateLimitedError(detail, retry_in_ms=max(1, math.ceil(verdict.reset_in_s * 1000)))

    def abuse(self, connection: Connection, error: BellhopError) -> bool:
        """Count a refusal; return whether the connection has had too many of late."""
        telemetry.refusals.labels(self.name, error.code).inc()
        if isinstance(error, UnavailableError) or not connection.refusals.take():
            return False
        telemetry.drops.labels(self.name, "abuse").inc()
        log.warning("closing a connection after many refusals", user=connection.token.user, code=error.code)
        return True

    # --- beside the connections ------------------------------------------------------------------------------

    def check_soon(self) -> None:
        """Announce the node and compare heads without waiting for the next turn: Redis may have lost something."""
        self._announcer.announce_soon()
        self._watching.look_soon()
        self._check_now.set()

    def start(self) -> None:
        """Begin to listen, to announce the node and to check."""
        telemetry.hears.labels(self.name).set_function(lambda: self._hears)
        for bus in self._buses:
            self._run(bus.listen())
            self._run(bus.ping())
        if self._emitters is not None:
            self._run(self._emitters.listen())
        self._run(self._announce())
        self._run(self._check_heads())
        self._run(self._receipts.write_regularly())
        self._run(self._token_locales.write_regularly())
        self._run(self._presence.write_later())
        self._run(self._watching.tell())
        self._run(self._watching.look())
        self._run(self._reaper.run())
        self._tokens.revocations.on_new = self._lifetimes.on_revocation
        self._run(self._tokens.revocations.read_regularly())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=getattr(work, "__qualname__", "task"))
        task.add_done_callback(_report)
        self._tasks.append(task)

    async def _announce(self) -> None:
        for bus in self._buses:
            await bus.subscribed.wait()  # a node that cannot hear must not be addressed
        await self._announcer.beat()

    async def _check_heads(self) -> None:
        outage = Outage(log, "postgres is away; heads are not checked")
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._check_now.wait(), self._settings.head_check_interval_s)
            at_once = self._check_now.is_set()
            self._check_now.clear()
            try:
                repaired = await self._delivery.check_heads(at_once=at_once)
                rooms = await self._rooms.check_heads(at_once=at_once)
                outage.is_over()
            except UnavailableError as error:
                outage.goes_on(error)
                await asyncio.sleep(1)
                if at_once:
                    self._check_now.set()
                continue
            if repaired or rooms:
                log.info("repaired what had missed something", connections=repaired, rooms=rooms)

    @property
    def _hears(self) -> bool:
        return all(bus.hears for bus in self._buses)

    @property
    def failing(self) -> str | None:
        """What keeps the node from being ready; None where nothing does."""
        if self.draining:
            return "draining"
        if not self._hears:
            return "redis: the node does not hear its own pings"
        dead = [task.get_name() for task in self._tasks if task.done()]
        return f"stopped: {', '.join(dead)}" if dead else None

    async def drain(self) -> None:
        """Send the clients away over a few seconds, so that they do not all come back at once; write their acks."""
        self.draining = True
        connections = list(self._registry.connections())
        spread_s = min(self._settings.drain_s, len(connections) / 200)
        log.info("draining", connections=len(connections), over_s=round(spread_s, 2))
        await self._announcer.withdraw(within_s=spread_s)
        for connection in connections:
            if not connection.ready:
                continue
            reconnect_in_ms = int(random.uniform(0, spread_s + 0.2) * 1000)  # noqa: S311  # spreads load, hides nothing
            self._server.send(connection, event_packet("drain", dumps({"reconnect_in_ms": reconnect_in_ms})))
        slices = max(1, int(spread_s / _SLICE_S))
        for nth in range(slices):
            for connection in connections[nth::slices]:
                await self._server.close(connection.eio_sid)
            await asyncio.sleep(_SLICE_S)
        with contextlib.suppress(UnavailableError):  # acks are hints: the clients' own numbers count
            await self._receipts.write()
        log.info("drained")

    async def stop(self) -> None:
        """End what runs beside the connections."""
        await end(self._tasks)
        await self._presence.stop()
        await self._announcer.settle()
        with contextlib.suppress(UnavailableError):
            await self._receipts.write()
            await self._token_locales.write()
        await self._announcer.withdraw()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task of the node has died; it is not ready any more", task=task.get_name(), exc_info=error)


def _handshake(auth: object) -> Handshake:
    if not isinstance(auth, dict) or not isinstance(auth.get("token"), str):
        detail = 'Connect with auth: {"token": "<user token>"}'
        raise TokenInvalidError(detail)
    return checked(Handshake, auth)

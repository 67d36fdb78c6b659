"""One socket node: what happens when clients connect, send and leave, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import structlog
from pydantic import BaseModel, ValidationError

from models import telemetry
from models.background import end
from models.contracts import AckEvent, ActionIn, Handshake, SyncEvent
from models.errors import (
    BellhopError,
    RateLimitedError,
    TokenExpiredError,
    TokenInvalidError,
    UnavailableError,
    UnknownEventError,
    ValidationFailedError,
)
from models.frames import dumps, event_packet
from models.tokens import verify_token
from socket_server.rate import TokenBucket
from socket_server.registry import Connection

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from models.inbox import InboxStore
    from models.settings import Settings
    from models.tenants import TenantSecrets
    from socket_server.bus import Bus
    from socket_server.delivery import Delivery
    from socket_server.presence import Presence
    from socket_server.receipts import Receipts
    from socket_server.registry import Registry
    from socket_server.server import Server

log = structlog.get_logger(__name__)

Event = TypeVar("Event", bound=BaseModel)

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
        inbox: InboxStore,
        delivery: Delivery,
        receipts: Receipts,
        presence: Presence,
        buses: Sequence[Bus],
        secrets_of: TenantSecrets,
    ) -> None:
        self._settings = settings
        self.name = name
        self._server = server
        self._registry = registry
        self._inbox = inbox
        self._delivery = delivery
        self._receipts = receipts
        self._presence = presence
        self._buses = buses
        self._secrets = secrets_of
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._check_now = asyncio.Event()
        self._sockets = telemetry.sockets.labels(name)
        self.draining = False
        server.handler = self

    # --- connections -----------------------------------------------------------------------------------------

    async def connect(self, eio_sid: str, _environ: dict[str, Any], auth: object) -> Connection:
        """Check a handshake. Raises `BellhopError`."""
        try:
            if self.draining:
                detail = "This node is going away; connect again"
                raise UnavailableError(detail)
            handshake = _handshake(auth)
            token = await verify_token(handshake.token, self._secrets.of)
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
        self._sockets.set(len(self._registry))
        return connection

    def connected(self, connection: Connection) -> None:
        """Start the stream of a connection whose CONNECT packet is on its way."""
        left_s = (connection.token.expires_at - datetime.now(UTC)).total_seconds()
        connection.expiry = asyncio.get_running_loop().call_later(max(0.0, left_s), self._expire, connection)
        self._delivery.begin(connection)
        log.debug("connected", user=connection.token.user, session=connection.session, since=connection.since)

    def _expire(self, connection: Connection) -> None:
        telemetry.drops.labels(self.name, "token_expired").inc()
        self._server.send_error(connection, TokenExpiredError(), None)
        self._server.start_background_task(self._server.close, connection.eio_sid)

    def disconnected(self, eio_sid: str) -> None:
        """Forget a connection."""
        connection = self._registry.remove(eio_sid)
        if connection is None:
            return
        connection.closed = True
        if connection.expiry is not None:
            connection.expiry.cancel()
        if connection.task is not None:
            connection.task.cancel()
        self._sockets.set(len(self._registry))
        if connection.key not in self._registry:
            task = asyncio.create_task(self._presence.update(connection.key))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        log.debug("disconnected", user=connection.token.user, session=connection.session)

    # --- events ----------------------------------------------------------------------------------------------

    async def event(self, connection: Connection, name: str, arguments: list[Any]) -> dict[str, Any]:
        """Answer a client event. Raises `BellhopError`."""
        self._take_token(connection)
        if not await self._delivery.has_room(connection):  # answers, too, wait for a client that does not read
            return {}
        token = connection.token
        match name:
            case "ack":
                self._receipts.ack(connection, _payload(AckEvent, arguments).seq)
                answer: dict[str, Any] = {}
            case "sync":
                asked = _payload(SyncEvent, arguments)
                page = await self._inbox.page(token.tenant, token.user, asked.since, asked.limit)
                answer = orjson.loads(page.as_json())
            case "act":
                wanted = _payload(ActionIn, arguments)
                done = await self._inbox.act(
                    token.tenant, token.user, [wanted.action], seqs=wanted.seqs, up_to=wanted.up_to
                )
                answer = orjson.loads(done.as_json())
            case _:
                detail = f"There is no event {name[:64]!r}; the events are ack, sync and act"
                raise UnknownEventError(detail)
        return {"ok": True, **answer}

    def _take_token(self, connection: Connection) -> None:
        """Let the event through, or raise `RateLimitedError`."""
        wait_s = connection.events.take()
        if wait_s:
            settings = self._settings
            detail = f"At most {settings.client_events_per_s:g} events a second, {settings.client_events_burst} at once"
            raise RateLimitedError(detail, retry_in_ms=math.ceil(wait_s * 1000))

    async def abuse(self, connection: Connection, error: BellhopError) -> bool:
        """Count a refusal; return whether the connection has had too many of late."""
        telemetry.refusals.labels(self.name, error.code).inc()
        if not connection.refusals.take():
            return False
        telemetry.drops.labels(self.name, "abuse").inc()
        log.warning("closing a connection after many refusals", user=connection.token.user, code=error.code)
        return True

    # --- beside the connections ------------------------------------------------------------------------------

    def check_soon(self) -> None:
        """Announce the node and compare heads without waiting for the next turn: Redis may have lost something."""
        self._presence.announce_soon()
        self._check_now.set()

    def start(self) -> None:
        """Begin to listen, to announce the node and to check."""
        telemetry.hears.labels(self.name).set_function(lambda: self._hears)
        for bus in self._buses:
            self._run(bus.listen())
            self._run(bus.ping())
        self._run(self._announce())
        self._run(self._check_heads())
        self._run(self._receipts.write_regularly())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=getattr(work, "__qualname__", "task"))
        task.add_done_callback(_report)
        self._tasks.append(task)

    async def _announce(self) -> None:
        for bus in self._buses:
            await bus.subscribed.wait()  # a node that cannot hear must not be addressed
        await self._presence.beat()

    async def _check_heads(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._check_now.wait(), self._settings.head_check_interval_s)
            at_once = self._check_now.is_set()
            self._check_now.clear()
            try:
                repaired = await self._delivery.check_heads(at_once=at_once)
            except UnavailableError:
                log.warning("postgres is away; heads are not checked")
                await asyncio.sleep(1)
                continue
            if repaired:
                log.info("repaired connections that had missed something", connections=repaired)

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
        await self._presence.withdraw()
        connections = list(self._registry.connections())
        spread_s = min(self._settings.drain_s, len(connections) / 200)
        for connection in connections:
            reconnect_in_ms = int(random.uniform(0, spread_s + 0.2) * 1000)  # noqa: S311  # spreads load, hides nothing
            self._server.send(connection, event_packet("drain", dumps({"reconnect_in_ms": reconnect_in_ms})))
        slices = max(1, int(spread_s / _SLICE_S))
        for nth in range(slices):
            for connection in connections[nth::slices]:
                await self._server.close(connection.eio_sid)
            await asyncio.sleep(_SLICE_S)
        with contextlib.suppress(UnavailableError):  # acks are hints: the clients' own numbers count
            await self._receipts.write()

    async def stop(self) -> None:
        """End what runs beside the connections."""
        await end(self._tasks)
        await asyncio.gather(*self._leaving, return_exceptions=True)
        with contextlib.suppress(UnavailableError):
            await self._receipts.write()
        await self._presence.withdraw()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task of the node has died; it is not ready any more", task=task.get_name(), exc_info=error)


def _handshake(auth: object) -> Handshake:
    if not isinstance(auth, dict) or not isinstance(auth.get("token"), str):
        detail = 'Connect with auth: {"token": "<user token>"}'
        raise TokenInvalidError(detail)
    try:
        return Handshake.model_validate(auth)
    except ValidationError as error:
        raise ValidationFailedError(_first(error)) from error


def _payload(model: type[Event], arguments: list[Any]) -> Event:
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        detail = "The event takes one JSON object"
        raise ValidationFailedError(detail)
    try:
        return model.model_validate(arguments[0])
    except ValidationError as error:
        raise ValidationFailedError(_first(error)) from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]

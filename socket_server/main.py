"""The socket server's composition root: settings in, ASGI application out."""

from __future__ import annotations

import secrets
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis.asyncio
import socketio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models import redis_keys
from models.database import Database
from models.errors import UnavailableError
from models.inbox import InboxStore
from models.presence import PresenceStore
from models.push_queue import PushQueue
from models.quotas import Quotas
from models.redis_client import connect
from models.redis_keys import is_room, is_watch
from models.rooms import RoomStore
from models.token_locales import TokenLocales
from models.token_verifier import TokenVerifier
from socket_server.announcer import Announcer, Holdings
from socket_server.bus import Bus
from socket_server.crowding import Crowding
from socket_server.delivery import Delivery
from socket_server.door import Door
from socket_server.emitters import Emitters
from socket_server.events import ClientEvents
from socket_server.lifetimes import Lifetimes
from socket_server.node import Node
from socket_server.presence import Presence
from socket_server.reaper import Reaper
from socket_server.receipts import Receipts
from socket_server.registry import Registry
from socket_server.replay import Replay
from socket_server.rooms import Rooms
from socket_server.server import Server
from socket_server.watching import Watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from models.push import Push
    from models.settings import Settings


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI application, and the node behind it."""

    asgi: Door
    node: Node


def create_app(settings: Settings) -> Application:
    """Wire the parts; connects to nothing before the lifespan starts."""
    label = f"{socket.gethostname()}:{settings.socket_port}"
    node_id = f"{label}:{secrets.token_hex(4)}"
    database = Database(settings.database_url, size=settings.database_pool_size)
    client = connect(settings.redis_url)
    bus = connect(settings.bus_url) if settings.bus_url else client
    ears = redis.asyncio.Redis.from_url(
        settings.bus, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0), health_check_interval=0
    )
    server = Server(cors_origins=settings.cors_origins)
    holdings = Holdings()
    registry = Registry()
    announcer = Announcer(bus, node_id, holdings, settings)
    replay = Replay(server, label)
    inbox = InboxStore(database, bus)
    delivery = Delivery(server=server, registry=registry, inbox=inbox, announcer=announcer, replay=replay, node=label)
    rooms = Rooms(
        settings=settings,
        server=server,
        store=RoomStore(database),
        holdings=holdings,
        announcer=announcer,
        replay=replay,
        node=label,
    )
    pushes = PushQueue(bus)
    presence_store = PresenceStore(database, bus, settings)
    presence = Presence(
        settings=settings,
        registry=registry,
        holdings=holdings,
        announcer=announcer,
        store=presence_store,
        pushes=pushes,
    )
    watching = Watching(
        server=server, store=presence_store, holdings=holdings, announcer=announcer, node_id=node_id, node=label
    )
    tokens = TokenVerifier(database, settings)
    token_locales = TokenLocales(database)
    lifetimes = Lifetimes(settings=settings, server=server, registry=registry, node=label)
    receipts = Receipts(database, label, settings.ack_flush_interval_s)

    def on_push(push: Push) -> None:
        listener = rooms if is_room(push.key) else watching if is_watch(push.key) else delivery
        listener.on_push(push)

    buses = [
        Bus(ears, node_id, channel, on_push, lambda: node.check_soon())  # noqa: PLW0108  # it comes later
        for channel in (redis_keys.urgent_channel(node_id), redis_keys.node_channel(node_id))
    ]
    node = Node(
        settings=settings,
        name=label,
        server=server,
        registry=registry,
        announcer=announcer,
        replay=replay,
        delivery=delivery,
        rooms=rooms,
        presence=presence,
        watching=watching,
        reaper=Reaper(bus, node_id, presence_store),
        receipts=receipts,
        events=ClientEvents(
            inbox=inbox,
            receipts=receipts,
            rooms=rooms,
            presence=presence,
            watching=watching,
            tokens=tokens,
            token_locales=token_locales,
            lifetimes=lifetimes,
        ),
        buses=buses,
        emitters=Emitters(ears, settings.emitter_key, registry, label) if settings.emitter_key else None,
        tokens=tokens,
        token_locales=token_locales,
        lifetimes=lifetimes,
        crowding=Crowding(settings, registry, presence_store, node_id),
        user_events=Quotas("user-events", settings.user_events_per_s, client),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await database.open()
        pushes.start()
        node.start()
        yield
        await node.stop()
        await tokens.close()
        await pushes.stop()
        await ears.aclose()
        await bus.aclose()
        await client.aclose()
        await database.close()

    http = Starlette(routes=_health(node, database), lifespan=lifespan)
    door = Door(
        socketio.ASGIApp(server, other_asgi_app=http),
        per_s=settings.connects_per_address_per_s,
        trusted_proxies=settings.trusted_proxies,
        node=label,
        draining=lambda: node.draining,
    )
    return Application(door, node)


def _health(node: Node, database: Database) -> list[Route]:
    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        failing = node.failing
        if failing is None:
            try:
                await database.check()
            except UnavailableError:
                failing = "postgres: unreachable"
        return JSONResponse({"status": "failing" if failing else "ok", "failing": failing}, 503 if failing else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]

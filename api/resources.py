"""What the API holds: built by the composition root, opened and closed by the lifespan, received by the handlers."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, cast

import redis.asyncio
import structlog
from fastapi import Depends, Request

from api.admission import Admission
from api.answers import Answers
from api.auth import Authenticator
from api.cancellations import Cancellations
from api.catalogue import Catalogue
from api.hints import Hints
from api.ingest import Ingest
from api.room_events import RoomEvents
from models.background import end
from models.database import Database
from models.digest_closing import Digests
from models.errors import UnavailableError
from models.inbox import InboxStore
from models.presence import PresenceStore
from models.push_queue import PushQueue
from models.redis_client import connect
from models.rooms import RoomStore
from models.token_locales import TokenLocales
from models.token_verifier import TokenVerifier
from workers.celery_app import make_celery

if TYPE_CHECKING:
    from models.settings import Settings


log = structlog.get_logger(__name__)

_SAME_LANGUAGE_S = 60.0  # in which a client that calls again and again costs no look at what language it came with


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that handlers use."""

    settings: Settings
    database: Database
    bus: redis.asyncio.Redis  # the same as `redis`, unless the settings name another
    redis: redis.asyncio.Redis
    tokens: TokenVerifier
    token_locales: TokenLocales
    authenticator: Authenticator
    admission: Admission
    hints: Hints
    catalogue: Catalogue
    ingest: Ingest
    inbox: InboxStore
    answers: Answers
    presence: PresenceStore
    rooms: RoomStore
    room_events: RoomEvents
    pushes: PushQueue
    cancellations: Cancellations
    digests: Digests
    background: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    def build(cls, settings: Settings) -> Resources:
        """Wire the parts; connects to nothing."""
        database = Database(settings.database_url, size=settings.database_pool_size)
        client = connect(settings.redis_url)
        bus = connect(settings.bus_url) if settings.bus_url else client
        tokens = TokenVerifier(database, settings)
        hints = Hints(make_celery(settings), client)
        pushes = PushQueue(bus)
        return cls(
            settings=settings,
            database=database,
            redis=client,
            bus=bus,
            tokens=tokens,
            token_locales=TokenLocales(database, again_after_s=_SAME_LANGUAGE_S),
            authenticator=Authenticator(database, tokens),
            admission=Admission(database, client, settings),
            hints=hints,
            catalogue=Catalogue(database),
            ingest=Ingest(database, hints),
            inbox=InboxStore(database, bus),
            answers=Answers(),
            presence=PresenceStore(database, bus, settings),
            rooms=RoomStore(database),
            room_events=RoomEvents(database, pushes, settings),
            pushes=pushes,
            cancellations=Cancellations(database, hints, pushes),
            digests=Digests(database),
        )

    async def open(self) -> None:
        """Start what runs in the background."""
        await self.database.open()
        self.hints.start()
        self.pushes.start()
        for work in (
            self.tokens.revocations.read_regularly(),
            self.catalogue.read_regularly(),
            self.admission.watch_backlog(),
            self.token_locales.write_regularly(),
            self.cancellations.finish_regularly(),
        ):
            task = asyncio.create_task(work, name=getattr(work, "__qualname__", "task"))
            task.add_done_callback(_report)
            self.background.append(task)

    @property
    def dead_tasks(self) -> list[str]:
        """What should run in the background and does not."""
        return [task.get_name() for task in self.background if task.done()]

    async def close(self) -> None:
        """Stop what runs in the background, and close the connections."""
        await self.hints.stop()
        await self.pushes.stop()
        await end(self.background)
        with contextlib.suppress(UnavailableError):  # what was not written comes again with its user
            await self.token_locales.write()
        await self.tokens.close()
        await self.redis.aclose()
        await self.bus.aclose()
        await self.database.close()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task of the API has died; it is not ready any more", task=task.get_name(), exc_info=error)


async def get_resources(request: Request) -> Resources:
    """Return the resources of the app that serves `request`. Async, or FastAPI would run it in a thread."""
    return cast("Resources", request.app.state.resources)


Held = Annotated[Resources, Depends(get_resources)]

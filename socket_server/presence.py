"""Who is here: says when users come, go, and turn away, to Redis, to Postgres and to the nodes where they are watched.

Somebody whose last connection closed stays for a grace: who comes back within it was never gone.
Invariant: a change is told after it can be seen, so whoever looks because of it sees it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from models.background import Background
from models.batching import Batcher
from models.errors import UnavailableError
from models.outage import Outage
from models.presence import Note
from models.push import presence_push
from models.redis_keys import watch_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.presence import PresenceStore
    from models.push import Push
    from models.push_queue import PushQueue
    from models.settings import Settings
    from socket_server.announcer import Announcer, Holdings
    from socket_server.registry import Connection, Registry

log = structlog.get_logger(__name__)

_TOGETHER = 1_000


class Presence:
    """The presence of this node's users."""

    def __init__(  # the composition root hands over each part by name
        self,
        *,
        settings: Settings,
        registry: Registry,
        holdings: Holdings,
        announcer: Announcer,
        store: PresenceStore,
        pushes: PushQueue,
    ) -> None:
        self._grace_s = settings.presence_grace_s
        self._registry = registry
        self._holdings = holdings
        self._announcer = announcer
        self._store = store
        self._pushes = pushes
        self._leaving: dict[str, tuple[float, asyncio.TimerHandle]] = {}  # since when, by user
        self._unwritten: dict[str, float] = {}  # what Postgres was not there for
        self._outage = Outage(log, "postgres is away; when users were last seen is written later")
        self._background = Background()
        self._depart = Batcher[tuple[str, float], None](self._depart_together, limit=_TOGETHER)

    def arrived(self, connection: Connection) -> None:
        """Note a connection that is in the registry."""
        key = connection.key
        if (leaving := self._leaving.pop(key, None)) is not None:
            leaving[1].cancel()
        if key in self._holdings:
            self._refresh(key)
        else:
            self._holdings.hold(key)
            self._background.run(self._tell(key))

    def left(self, connection: Connection) -> None:
        """Note a connection that is in the registry no more."""
        key = connection.key
        if key in self._registry:
            self._refresh(key)
        elif key not in self._leaving:
            timer = asyncio.get_running_loop().call_later(self._grace_s, self._gone, key)
            self._leaving[key] = (time.time(), timer)

    def set_away(self, connection: Connection, *, away: bool) -> None:
        """Note whether somebody is at the device that is connected."""
        connection.away = away
        if not connection.closed:
            self._refresh(connection.key)

    def _refresh(self, key: str) -> None:
        theirs = self._registry.of_user(key)
        note = Note(len(theirs), away=all(connection.away for connection in theirs))
        if (before := self._holdings.note(key, note)) is None:
            return
        if before.away == note.away:
            self._announcer.update_soon(key)
        else:
            self._background.run(self._tell(key))

    def _gone(self, key: str) -> None:
        since, _ = self._leaving.pop(key)
        self._background.run(self._depart((key, since)))

    async def _depart_together(self, gone: Sequence[tuple[str, float]]) -> list[None]:
        if self._unwritten:  # Postgres is away, and watchers should not wait for it
            self._unwritten |= dict(gone)
        else:
            await self._record(dict(gone))  # first, so that whoever learns that they are gone learns since when
        keys = [key for key, _ in gone if key not in self._registry and key not in self._leaving]
        for key in keys:
            self._holdings.release(key)
        await asyncio.gather(*(self._announcer.update(key) for key in keys))
        self._pushes.put(_look_at(key) for key in keys)
        return [None] * len(gone)

    async def _tell(self, key: str) -> None:
        await self._announcer.update(key)
        self._pushes.put([_look_at(key)])

    async def _record(self, seen: dict[str, float]) -> None:
        now = self._unwritten | seen
        try:
            await self._store.record(now.items())
        except UnavailableError as error:
            self._outage.goes_on(error)
            self._unwritten |= seen
        else:
            self._outage.is_over()
            self._unwritten = {key: at for key, at in self._unwritten.items() if now.get(key) != at}

    async def write_later(self) -> None:
        """Try again to write what Postgres was not there for, for ever."""
        while True:
            await asyncio.sleep(1)
            if self._unwritten:
                await self._record({})

    async def stop(self) -> None:
        """Note that everybody who is here was last seen now, or when they left: the node ends."""
        for _, timer in self._leaving.values():
            timer.cancel()
        await self._background.settle()
        here = dict.fromkeys(self._registry.users(), time.time())
        await self._record(here | {key: since for key, (since, _) in self._leaving.items()})


def _look_at(key: str) -> Push:
    tenant, _, user = key.partition("/")
    return presence_push(watch_key(tenant, user))

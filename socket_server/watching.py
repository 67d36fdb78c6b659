"""Whom this node's clients watch: looks when it is told to, and tells them what has changed.

A message only says that there is something to look at; what a look finds is told. So nothing that is lost or overtaken
on the way does harm: nodes that vanish are noticed within a second, and everything is looked at anew every few seconds.
Invariant: looks follow each other, so a watched user's status never goes back to an older one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from models import telemetry
from models.background import Background
from models.batching import Batcher
from models.errors import NotGrantedError, TooManyWatchedError, UnavailableError
from models.fields import MAX_WATCHED
from models.frames import dumps, event_packet
from models.grants import granted
from models.outage import Outage
from models.redis_keys import watch_key
from models.states import PresenceStatus
from socket_server.outgoing import Prepared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.presence import Host, PresenceStore, Seen
    from models.push import Push
    from socket_server.announcer import Announcer, Holdings
    from socket_server.registry import Connection
    from socket_server.server import Server

log = structlog.get_logger(__name__)

_TICK_S = 1.0
_LOOK_AGAIN_S = 5.0
_TOGETHER = 1_000
_SLICE = 256  # sockets, until others have their turn


@dataclass(slots=True, eq=False)
class Watched:
    """Somebody whom clients of this node watch. `seen` is what the last look found, `told` what they know."""

    tenant: str
    user: str
    watchers: set[Connection] = field(default_factory=set)
    seen: Seen | None = None
    told: PresenceStatus | None = None


class Watching:
    """All who are watched here."""

    def __init__(  # the composition root hands over each part by name
        self,
        *,
        server: Server,
        store: PresenceStore,
        holdings: Holdings,
        announcer: Announcer,
        node_id: str,
        node: str,
    ) -> None:
        self._server = server
        self._store = store
        self._holdings = holdings
        self._announcer = announcer
        self._node_id = node_id
        self._watched: dict[str, Watched] = {}  # by models.redis_keys.watch_key
        self._changed: dict[Watched, None] = {}
        self._behind: dict[Connection, set[Watched]] = {}  # who did not read, and what they were not told
        self._wake = asyncio.Event()
        self._look = Batcher[tuple[Watched, bool], None](self._look_together, limit=_TOGETHER)
        self._outage = Outage(log, "it cannot be found out who is online; the next look will")
        self._background = Background()
        self._hosts: set[tuple[str, bool]] = set()  # and whether each counts
        self._looked_at = float("-inf")
        self._frames = telemetry.frames_sent.labels(node, "presence")
        telemetry.watched.labels(node).set_function(lambda: len(self._watched))

    # --- who watches whom ------------------------------------------------------------------------------------

    async def watch(self, connection: Connection, users: Sequence[str]) -> dict[str, Any]:
        """Let a connection be told of these users' presence, and return it as it is now.

        Raises `NotGrantedError`, `TooManyWatchedError`, `UnavailableError`.
        """
        for user in users:
            if not granted(connection.token.watch, user):
                raise _not_granted(user)
        if len(connection.watched.union(users)) > MAX_WATCHED:
            detail = f"A connection may watch {MAX_WATCHED} users at once; unwatch some, or open another connection"
            raise TooManyWatchedError(detail)
        added = [user for user in users if user not in connection.watched]
        watched = [self._enter(connection, user) for user in users]
        try:
            # First Redis, then the look: what changes after the look finds this node in Redis.
            await asyncio.gather(*(self._announcer.update(watch_key(each.tenant, each.user)) for each in watched))
            await asyncio.gather(*(self._look((each, True)) for each in watched))
        except UnavailableError:
            self.unwatch(connection, added)
            raise
        # As it is known in this very step: a frame that was sent meanwhile must not be newer than the answer.
        return {"users": {each.user: each.seen.as_dict() for each in watched if each.seen is not None}}

    def _enter(self, connection: Connection, user: str) -> Watched:
        key = watch_key(connection.token.tenant, user)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watched[key] = Watched(connection.token.tenant, user)
            self._holdings.hold(key)
        watched.watchers.add(connection)
        connection.watched.add(user)
        return watched

    def unwatch(self, connection: Connection, users: Iterable[str]) -> None:
        """Tell a connection of these users no longer; of whom it is not told anyway, nothing happens."""
        for user in list(users):
            if user not in connection.watched:
                continue
            connection.watched.discard(user)
            key = watch_key(connection.token.tenant, user)
            watched = self._watched[key]
            watched.watchers.discard(connection)
            self._behind.get(connection, set()).discard(watched)
            if not watched.watchers:
                del self._watched[key]
                self._holdings.release(key)
                self._announcer.update_soon(key)

    def forget(self, connection: Connection) -> None:
        """Tell a connection of nobody any more."""
        self.unwatch(connection, connection.watched)
        self._behind.pop(connection, None)

    def unwatch_what_is_not_granted(self, connection: Connection) -> None:
        """Tell a connection no longer of users whom its token, a new one, does not grant, and say so."""
        for user in [user for user in connection.watched if not granted(connection.token.watch, user)]:
            self.unwatch(connection, [user])
            self._server.send_error(connection, _not_granted(user), "watch")

    # --- looking ---------------------------------------------------------------------------------------------

    def on_push(self, push: Push) -> None:
        """Look again at somebody, soon."""
        if (watched := self._watched.get(push.key)) is not None:
            self._background.run(self._look_again([watched]))

    async def _look_again(self, watched: Sequence[Watched]) -> None:
        try:
            await asyncio.gather(*(self._look((each, False)) for each in watched))
            self._outage.is_over()
        except UnavailableError as error:
            self._outage.goes_on(error)

    async def _look_together(self, asked: Sequence[tuple[Watched, bool]]) -> list[None]:
        """Look at some, as though for the first time where it says so."""
        first_time = {each for each, is_new in asked if is_new or each.seen is None}
        unique = list(dict.fromkeys(each for each, _ in asked))
        hosts = await self._store.hosts()
        found = await self._store.look_now([(each.tenant, each.user) for each in unique], hosts)
        await self._remember(unique, found, first_time)
        for each, seen in zip(unique, found, strict=True):
            if seen.status is PresenceStatus.OFFLINE and each.seen is not None and self._is_doubtful(hosts):
                continue  # it will be looked at again
            each.seen = seen
            if each.told is None:
                each.told = seen.status
            elif each.told != seen.status:
                self._changed[each] = None
                self._wake.set()
        return [None] * len(asked)

    async def _remember(self, watched: Sequence[Watched], found: list[Seen], first_time: set[Watched]) -> None:
        """Add since when those are gone who are offline. Postgres is asked only for whom it may know better."""
        unsure = []
        for nth, each in enumerate(watched):
            if found[nth].status is not PresenceStatus.OFFLINE:
                continue
            if each.seen is not None and each.seen.status is PresenceStatus.OFFLINE and each not in first_time:
                found[nth] = found[nth].at_least(each.seen.last_seen_at)
            else:
                unsure.append(nth)
        try:
            remembered = await self._store.last_seen([(watched[nth].tenant, watched[nth].user) for nth in unsure])
        except UnavailableError as error:  # whether they are here matters more than since when they are not
            log.debug("postgres is away; since when somebody is offline is not known", error=error.detail)
            remembered = [None if (seen := watched[nth].seen) is None else seen.last_seen_at for nth in unsure]
        for nth, at in zip(unsure, remembered, strict=True):
            found[nth] = found[nth].at_least(at)

    def _is_doubtful(self, hosts: Sequence[Host]) -> bool:
        """Say whether Redis has lost its memory: it does not know this node, or did not lately, nor others perhaps."""
        return self._node_id not in {host.name for host in hosts} or self._announcer.was_forgotten

    async def _look_around(self) -> None:
        """Look at everybody where nodes came or went, or where the last time was a while ago."""
        if not self._watched:
            return
        hosts = {(host.name, host.present) for host in await self._store.hosts()}
        if hosts == self._hosts and time.monotonic() - self._looked_at < _LOOK_AGAIN_S:
            return
        self._hosts, self._looked_at = hosts, time.monotonic()
        await self._look_again(list(self._watched.values()))

    # --- telling ---------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Look around every second, for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._tell_those_behind()
            try:
                await self._look_around()
            except UnavailableError as error:
                self._outage.goes_on(error)

    def look_soon(self) -> None:
        """Look at everybody within a second: Redis may have lost something."""
        self._looked_at = float("-inf")

    async def tell(self) -> None:
        """Tell what has changed, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._tell_changes()

    async def _tell_changes(self) -> None:
        while self._changed:
            watched = next(iter(self._changed))
            del self._changed[watched]
            if watched.seen is not None and watched.told != watched.seen.status:
                watched.told = watched.seen.status
                await self._tell(watched, watched.seen)

    async def _tell(self, watched: Watched, seen: Seen) -> None:
        packet = _packet(watched.user, seen)
        for nth, connection in enumerate(list(watched.watchers), 1):
            if connection not in watched.watchers:
                pass  # it left since the last pause
            elif connection.outgoing.full_to(1.0):
                self._behind.setdefault(connection, set()).add(watched)
            else:
                connection.outgoing.send_prepared(packet)
                self._frames.inc()
            if nth % _SLICE == 0:
                await asyncio.sleep(0)

    def _tell_those_behind(self) -> None:
        """Tell who did not read and does so now how it is, not how it was in between."""
        for connection in list(self._behind):
            if connection.outgoing.full_to(0.5):
                continue
            for watched in self._behind.pop(connection):
                if watched.seen is not None and not connection.closed:
                    connection.outgoing.send_prepared(_packet(watched.user, watched.seen))
                    self._frames.inc()


def _packet(user: str, seen: Seen) -> Prepared:
    return Prepared(event_packet("presence", dumps({"user": user, **seen.as_dict()})))


def _not_granted(user: str) -> NotGrantedError:
    detail = f"The token does not grant to watch {user}; ask your backend for one that does"
    return NotGrantedError(detail, extra={"user": user})

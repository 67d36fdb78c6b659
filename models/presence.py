"""Whether users are online, as Redis says it now, and when those who are not were last seen, as Postgres remembers it.

Every socket node keeps a set of its users, and notes about those among them who have several sockets there, or are away
from all of them. The users of a node that says nothing have until it counts as gone to come back elsewhere without
anybody noticing; those of one that says goodbye, or is found to hear nothing, have a grace.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis.asyncio

from models import redis_keys
from models.errors import UnavailableError
from models.frames import dumps
from models.queries import presence as sql
from models.redis_keys import user_key
from models.states import PresenceStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.database import Database
    from models.settings import Settings

User = tuple[str, str]  # tenant and name


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a user. `last_seen_at` is now for who is connected, None for who never was."""

    status: PresenceStatus
    last_seen_at: datetime | None

    def at_least(self, at: datetime | None) -> Seen:
        """Return the same of somebody of whom it is known, too, that they were here then."""
        return self if at is None or (self.last_seen_at or at) > at else Seen(self.status, at)

    def as_dict(self) -> dict[str, Any]:
        """Return the wire form."""
        return {"status": self.status, "last_seen_at": self.last_seen_at}


@dataclass(frozen=True, slots=True)
class Host:
    """A node as Redis knows it. `until` is when it was last known to be there, where it is not `present`."""

    name: str
    present: bool
    until: float


@dataclass(frozen=True, slots=True)
class Note:
    """What a node says of one of its users: how many `sockets` it has there, and whether it is `away` from all."""

    sockets: int = 1
    away: bool = False

    @property
    def is_ordinary(self) -> bool:
        """Whether it goes without saying."""
        return self == _ORDINARY

    def written(self) -> str:
        """Return it as it stands in Redis."""
        return f"{self.sockets}{_AWAY * self.away}"

    @classmethod
    def read(cls, written: bytes | None) -> Note:
        """Return what `written` gave; without a note, one socket with somebody at it."""
        if written is None:
            return _ORDINARY
        text = written.decode()
        return cls(int(text.removesuffix(_AWAY)), text.endswith(_AWAY))


_AWAY = "a"
_ORDINARY = Note()


class PresenceStore:
    """Looks users up. `client` is that of the bus."""

    def __init__(self, database: Database, client: redis.asyncio.Redis, settings: Settings) -> None:
        self._database = database
        self._redis = client
        self._ttl_s = settings.node_ttl_s
        self._grace_s = settings.presence_grace_s

    async def hosts(self) -> list[Host]:
        """Return all nodes whose users may count, and those that nobody has reaped yet. Raises `UnavailableError`."""
        with _unavailable():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zrange(redis_keys.NODES, 0, -1, withscores=True)
            pipeline.zrange(redis_keys.DEPARTED, 0, -1, withscores=True)
            alive, departed = await pipeline.execute()
        now = time.time()
        found = {name.decode(): Host(name.decode(), now < at + self._grace_s, at) for name, at in departed}
        found |= {name.decode(): Host(name.decode(), now < at, at - self._ttl_s) for name, at in alive}
        return list(found.values())

    async def look(self, users: Sequence[User]) -> list[Seen]:
        """Return what is known of these users, in that order. Raises `UnavailableError`."""
        seen = await self.look_now(users, await self.hosts())
        offline = [nth for nth, each in enumerate(seen) if each.status is PresenceStatus.OFFLINE]
        for nth, at in zip(offline, await self.last_seen([users[nth] for nth in offline]), strict=True):
            seen[nth] = seen[nth].at_least(at)
        return seen

    async def look_now(self, users: Sequence[User], hosts: Sequence[Host]) -> list[Seen]:
        """Return what Redis knows of these users; see `last_seen` for those offline. Raises `UnavailableError`."""
        statuses, last = await self._look(users, hosts)
        now = datetime.now(UTC)
        return [
            Seen(status, at if status is PresenceStatus.OFFLINE else now)
            for status, at in zip(statuses, last, strict=True)
        ]

    async def _look(
        self, users: Sequence[User], hosts: Sequence[Host]
    ) -> tuple[list[PresenceStatus], list[datetime | None]]:
        """Return each user's status, and when the last node that held them went away, if one did lately."""
        keys = [user_key(*user) for user in users]
        pipeline = self._redis.pipeline(transaction=False)
        for host in hosts:
            pipeline.smismember(redis_keys.holdings(host.name), keys)
            pipeline.hmget(redis_keys.notes(host.name), keys)
        with _unavailable():
            answers = iter(await pipeline.execute() if hosts and users else ())
        held_by = [(host, next(answers), next(answers)) for host in hosts if users]
        statuses, last = [], []
        for nth in range(len(users)):
            here = [Note.read(notes[nth]) for host, held, notes in held_by if held[nth] and host.present]
            statuses.append(status_of(here))
            until = [host.until for host, held, _ in held_by if held[nth] and not host.present]
            last.append(datetime.fromtimestamp(max(until), UTC) if until else None)
        return statuses, last

    async def sockets_elsewhere(self, user: User, node: str) -> int:
        """Return how many sockets a user has on other nodes than this one. Raises `UnavailableError`."""
        key = user_key(*user)
        others = [host for host in await self.hosts() if host.present and host.name != node]
        pipeline = self._redis.pipeline(transaction=False)
        for host in others:
            pipeline.sismember(redis_keys.holdings(host.name), key)
            pipeline.hget(redis_keys.notes(host.name), key)
        with _unavailable():
            answers = iter(await pipeline.execute() if others else ())
        return sum(Note.read(note).sockets for held, note in zip(answers, answers, strict=True) if held)

    async def last_seen(self, users: Sequence[User]) -> list[datetime | None]:
        """Return when Postgres remembers these users to have been here. Raises `UnavailableError`."""
        found: list[datetime | None] = [None] * len(users)
        if users:
            asked = [{"ord": nth, "tenant": tenant, "user_id": user} for nth, (tenant, user) in enumerate(users)]
            for row in await self._database.rows(sql.LAST_SEEN, {"asked": dumps(asked).decode()}):
                found[row["ord"]] = row["last_seen_at"]
        return found

    async def record(self, seen: Iterable[tuple[str, float]]) -> None:
        """Remember, by `user_key`, when users were last connected (unix time). Raises `UnavailableError`."""
        rows = []
        for key, at in seen:
            tenant, _, user = key.partition("/")
            rows.append({"tenant": tenant, "user_id": user, "last_seen_at": datetime.fromtimestamp(at, UTC)})
        if rows:
            await self._database.rows(sql.RECORD_LAST_SEEN_IF_LATER, {"seen": dumps(rows).decode()})


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        detail = "Redis, which knows who is online, cannot be reached; try again"
        raise UnavailableError(detail) from error


def status_of(notes: Sequence[Note]) -> PresenceStatus:
    """Return the status of somebody of whom the nodes that hold them say this. Pure."""
    if not notes:
        return PresenceStatus.OFFLINE
    return PresenceStatus.AWAY if all(note.away for note in notes) else PresenceStatus.ONLINE

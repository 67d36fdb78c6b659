"""Events of rooms: numbered and committed, many requests in one statement, then pushed to the nodes that hold the room.

`publish` returns only after the commit. Events of one process are numbered in the order in which they came; those of
several processes in the order of their commits, which the room's row decides.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import structlog

from models import frames, telemetry
from models.batching import Batcher
from models.errors import BellhopError, IdempotencyMismatchError, UnavailableError, ValidationFailedError
from models.push import ROOM_EVENT, Push
from models.queries import rooms as sql
from models.redis_keys import room_key
from models.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.contracts import RoomEventIn
    from models.database import Database
    from models.push_queue import PushQueue
    from models.settings import Settings

log = structlog.get_logger(__name__)

_EVENTS_PER_STATEMENT = 500
_TRIES = 5  # another process uses the same keys at the same moment: once is enough, unless somebody is at it on purpose

Room = tuple[str, str]  # tenant and name


@dataclass(frozen=True, slots=True)
class Draft:
    """One event as it goes into the statement."""

    room: Room
    event: str
    data: bytes
    idempotency_key: str | None = None
    body_hash: str | None = None

    @classmethod
    def of(cls, tenant: str, room: str, event: RoomEventIn, idempotency_key: str | None) -> Draft:
        """Prepare an event."""
        body_hash = None
        if idempotency_key is not None:
            canonical = orjson.dumps([event.event, event.data], option=orjson.OPT_SORT_KEYS)
            body_hash = hashlib.sha256(canonical).hexdigest()
        return cls((tenant, room), event.event, frames.dumps(event.data), idempotency_key, body_hash)

    def row(self) -> dict[str, Any]:
        """Return what the statement takes of it."""
        return {
            "event": self.event,
            "data": orjson.Fragment(self.data),
            "idempotency_key": self.idempotency_key,
            "body_hash": self.body_hash,
        }


@dataclass(frozen=True, slots=True)
class Published:
    """Under which number an event stands in its room."""

    seq: int
    replayed: bool = False


class RoomEvents:
    """Takes events in."""

    def __init__(self, database: Database, pushes: PushQueue, settings: Settings) -> None:
        self._database = database
        self._pushes = pushes
        self._retention = Retention(settings.room_retention)
        self._publish = Batcher[Draft, Published](self._write, limit=_EVENTS_PER_STATEMENT)

    async def publish(self, draft: Draft) -> Published:
        """Commit an event and return its number.

        Raises `UnavailableError` where Postgres did not answer: it may have been written, and whoever asks again with
        the same key finds out; `IdempotencyMismatchError`; `ValidationFailedError` where the database cannot store it.
        """
        return await self._publish(draft)

    async def _write(self, drafts: Sequence[Draft]) -> list[Published | BellhopError]:
        for _ in range(_TRIES):
            answers = await self._find_earlier(drafts)
            places, again = _first_uses(drafts, answers)
            try:
                answers |= await self._insert(drafts, places)
            except psycopg.errors.UniqueViolation:
                continue  # another process has just used one of the keys: it is found now
            except psycopg.DataError as error:
                log.warning("postgres refused an event", error=str(error.diag.message_primary))
                return await self._write_halves(drafts)
            answers |= {place: _replayed(drafts[place], drafts[first], answers[first]) for place, first in again}
            return [answers[place] for place in range(len(drafts))]
        raise UnavailableError

    async def _write_halves(self, drafts: Sequence[Draft]) -> list[Published | BellhopError]:
        """Let one bad event not fail its neighbours: halve until it stands alone."""
        if len(drafts) == 1:
            return [ValidationFailedError("The database cannot store one of these values")]
        middle = len(drafts) // 2
        return [*await self._write(drafts[:middle]), *await self._write(drafts[middle:])]

    async def _find_earlier(self, drafts: Sequence[Draft]) -> dict[int, Published | BellhopError]:
        keys = [
            {"ord": place, "tenant": draft.room[0], "name": draft.room[1], "idempotency_key": draft.idempotency_key}
            for place, draft in enumerate(drafts)
            if draft.idempotency_key is not None
        ]
        if not keys:
            return {}
        rows = await self._database.rows(sql.FIND_EVENTS_BY_IDEMPOTENCY_KEY, {"keys": frames.dumps(keys).decode()})
        return {row["ord"]: _earlier(drafts[row["ord"]], row["seq"], row["body_hash"]) for row in rows}

    async def _insert(self, drafts: Sequence[Draft], places: Sequence[int]) -> dict[int, Published]:
        if not places:
            return {}
        by_room: dict[Room, list[int]] = {}
        for place in places:
            by_room.setdefault(drafts[place].room, []).append(place)
        committed_after = time.time()
        rows = await self._database.rows(sql.PUBLISH, self._parameters(drafts, by_room))
        answers: dict[int, Published] = {}
        pushes = []
        for row in rows:
            theirs = by_room[row["tenant"], row["name"]]
            first = row["last_seq"] - len(theirs) + 1
            entries = []
            for seq, place in enumerate(theirs, first):
                answers[place] = Published(seq)
                entries.append(frames.room_entry(seq, drafts[place].event, drafts[place].data, row["at"]))
            key = room_key(row["tenant"], row["name"])
            pushes.append(Push(key, first, row["last_seq"], b",".join(entries), ROOM_EVENT, committed_after))
        telemetry.room_events.inc(len(answers))
        self._pushes.put(pushes)
        return answers

    def _parameters(self, drafts: Sequence[Draft], by_room: Mapping[Room, Sequence[int]]) -> dict[str, str]:
        rooms, events = [], []
        for (tenant, name), places in by_room.items():
            kept = self._retention.of(name)
            whose = {"tenant": tenant, "name": name}
            rooms.append({**whose, "n": len(places), "keep_events": kept.events, "keep_s": kept.age_s})
            events += [{**whose, "nth": nth, **drafts[place].row()} for nth, place in enumerate(places, 1)]
        return {"rooms": frames.dumps(rooms).decode(), "events": frames.dumps(events).decode()}


def _first_uses(drafts: Sequence[Draft], answered: Mapping[int, object]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the places of what is to be written, and each place that repeats an earlier one's key, with that one."""
    places: list[int] = []
    again: list[tuple[int, int]] = []
    used: dict[tuple[Room, str], int] = {}
    for place, draft in enumerate(drafts):
        if place in answered:
            continue
        if draft.idempotency_key is not None:
            first = used.setdefault((draft.room, draft.idempotency_key), place)
            if first != place:
                again.append((place, first))
                continue
        places.append(place)
    return places, again


def _replayed(draft: Draft, first: Draft, answer: Published | BellhopError) -> Published | BellhopError:
    return _earlier(draft, answer.seq, first.body_hash) if isinstance(answer, Published) else answer


def _earlier(draft: Draft, seq: int, body_hash: str | None) -> Published | BellhopError:
    if body_hash != draft.body_hash:
        detail = "This idempotency key was used in this room with another body; use a new key for a new event"
        return IdempotencyMismatchError(detail)
    return Published(seq, replayed=True)

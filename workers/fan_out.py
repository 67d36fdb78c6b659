"""A broadcast's next batch: as many users as fit into one transaction, from behind the last one.

Each of them gets it into the inbox, or into a digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from models import frames
from models.digest_times import closes_at
from models.preferences import Preferences
from models.push import Broadcast, BroadcastPush, Pushable, inbox_push
from models.queries import digests as digest_sql
from models.queries import dispatch as sql
from models.redis_keys import user_key
from models.states import OVERTAKEN
from workers.collapse import Places, take_places
from workers.plan import MOST_DELIVERIES, asks_for_preferences, is_silent, muted_by
from workers.wording import Wording

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from models.database import Connection
    from models.states import Priority
    from workers.choose import FanOut
    from workers.plan import Box

_USERS_PER_ROW = 10  # where a batch may claim so many rows: a broadcast is less work for each


@dataclass(frozen=True, slots=True)
class Reached:
    """What one transaction did; `done` where it was the last."""

    tell: Callable[[], Sequence[Pushable]]  # makes the pushes
    delivered: int
    suppressed: int
    done: bool
    gathered: int = 0


@dataclass(slots=True)
class _Wishes:
    """What those users want who have said anything."""

    muted: list[dict[str, str]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    locales: dict[str, str] = field(default_factory=dict)


class FanningOut:
    """One batch of a claimed row."""

    def __init__(
        self, connection: Connection, priority: Priority, row: dict[str, Any], audience: FanOut, *, careful: bool
    ) -> None:
        self._connection = connection
        self._priority = priority
        self._row = row
        self._wording = Wording(row, priority)
        self._everyone = audience.topic is None
        self._careful = careful
        self._named = row["collapse_key"] is not None and row["digest_every"] is None
        self._parameters = {
            **{name: row[name] for name in ("id", "tenant", "domain", "type", "due_at", "position", "collapse_key")},
            "topic": audience.topic,
            "excluded": audience.excluded,
            "priority": priority.rank,
            "worded": row["texts"] is not None,
        }

    def next(self, limit: int) -> Reached:
        """Deliver to the next users, where batches of `limit` rows are claimed. Raises `psycopg.Error`."""
        users = min(limit * _USERS_PER_ROW, MOST_DELIVERIES)
        if self._named:  # what they have unread is taken out first, and must be theirs who get the new one
            asked = sql.next_users(users, everyone=self._everyone)
            found = self._connection.execute(asked, self._parameters).fetchall()
            self._parameters["users"] = [each["user_id"] for each in found]
        wishes = self._wishes(users)
        if self._row["digest_every"] is not None:
            return self._gather(users, wishes)
        places = self._collapse(wishes)
        collapsed = {user: n for (_, user, _, _), n in places.taken.items()}
        written = {
            **self._parameters,
            "muted": frames.dumps(wishes.muted).decode(),
            "silent": list(wishes.silent),
            "locales": frames.dumps(wishes.locales).decode(),
            "collapsed": frames.dumps(collapsed).decode(),
        }
        statement = sql.fan_out(users, everyone=self._everyone, named=self._named, careful=self._careful)
        (became,) = self._connection.execute(statement, written).fetchall()

        def tell() -> list[Pushable]:
            return self._pushes(orjson.loads(became["boxes"]), wishes, places.changes, collapsed)

        return Reached(tell, became["delivered"], became["suppressed"], became["done"])

    def _gather(self, users: int, wishes: _Wishes) -> Reached:
        """Add it to the digests of the next users instead."""
        row = self._row
        written = {
            **self._parameters,
            "muted": frames.dumps(wishes.muted).decode(),
            "key": row["digest_key"],
            "closes_at": closes_at(row["digest_every"], row["now"]),
        }
        statement = digest_sql.gather_broadcast(users, everyone=self._everyone)
        (became,) = self._connection.execute(statement, written).fetchall()
        return Reached(tuple, 0, became["suppressed"], became["done"], became["gathered"])

    def _wishes(self, users: int) -> _Wishes:
        wishes = _Wishes()
        row, priority = self._row, self._priority
        if not asks_for_preferences(row, priority):
            return wishes
        asked = sql.preferences_of_next(users, everyone=self._everyone, named=self._named)
        for each in self._connection.execute(asked, self._parameters).fetchall():
            user, theirs = each["user_id"], Preferences.read(each["body"], each["token_locale"])
            if rule := muted_by(row, priority, theirs):
                wishes.muted.append({"user_id": user, "rule": rule})
                continue
            if is_silent(row, priority, theirs):
                wishes.silent.add(user)
            if locale := self._wording.locale_for(theirs):
                wishes.locales[user] = locale
        return wishes

    def _collapse(self, wishes: _Wishes) -> Places:
        """Take out what the next users have unread of the same key; who has a newer one does not get this one."""
        if not self._named:
            return Places()
        others = {self._parameters["excluded"], *(each["user_id"] for each in wishes.muted)}
        tenant, key = self._row["tenant"], self._row["collapse_key"]
        boxes = [(tenant, user) for user in self._parameters["users"] if user not in others]
        arriving = {(*box, self._row["type"], key): (self._row["said_at"], 1) for box in boxes}
        places = take_places(self._connection, boxes, arriving)
        wishes.muted += [{"user_id": user, "rule": OVERTAKEN} for _, user, _, _ in places.overtaken]
        return places

    def _pushes(
        self,
        boxes: Sequence[tuple[str, int, int, int, int]],
        wishes: _Wishes,
        changes: Mapping[Box, Mapping[str, Any]],
        collapsed: Mapping[str, int],
    ) -> list[Pushable]:
        """Return a push for each user, number and counts. Most get the same words, and are not there to read them."""
        tenant, priority, due_at = self._row["tenant"], self._priority.rank, self._row["due_at"].timestamp()
        wordings: dict[tuple[str | None, bool, int], Broadcast] = {}
        pushes: list[Pushable] = []
        for user, inbox_id, seq, unread, unseen in boxes:
            told = (wishes.locales.get(user), user in wishes.silent, collapsed.get(user, 0))
            broadcast = wordings.get(told)
            if broadcast is None:
                tail = self._wording.tail(told[0], silent=told[1], collapsed=told[2])
                broadcast = wordings[told] = Broadcast(tail, priority, due_at)
            key = user_key(tenant, user)
            if change := changes.get((tenant, user)) if changes else None:
                entries = [frames.change(change), frames.arrival(seq, broadcast.tail)]
                payload = frames.inbox_frame(change["seq"], seq, entries, unread, unseen)
                pushes.append(inbox_push(key, change["seq"], seq, payload, priority, due_at, inbox_id=inbox_id))
            else:
                pushes.append(BroadcastPush(key, inbox_id, seq, unread, unseen, broadcast))
        return pushes

"""The sending side: backends that post one request after another, each until it has an answer.

Invariant: a poster's next request leaves after the answer to its last one, so the order of posting is known.
"""

from __future__ import annotations

import random
from collections import deque
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from models.fields import MAX_USERS
from models.states import Priority
from ops.prove.alarm import ViolationError
from ops.prove.catalogue import thread_of
from ops.prove.ledger import BRIEF, GATHERED, WORDED, Cancelled, Posted
from ops.prove.pause import pause

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from ops.prove.calls import Answer, Caller
    from ops.prove.ledger import Ledger

_ACCEPTED, _DONE, _REFUSED = 202, 200, 422
_BULK, _BULK_SIZE = 0.25, (2, 40)
_SEVERAL, _SEVERAL_USERS = 0.2, (2, 12)
_EXPIRES, _EXPIRES_S = 0.06, (0.2, 4.0)
_LATER, _LATER_S = 0.05, (0.2, 3.0)
_BROADCAST = 0.005  # how often one goes to a topic
_REGISTERED, _REGISTERED_TYPES = (0.12, 0.05, 0.15), (WORDED, BRIEF, GATHERED)  # how often one is of these types
_MISFITS = 0.02  # how often one is posted that does not fit its type's schema
_CANCELS = 0.05  # how often one of the last few is taken back after a post, whatever has become of it
_LAST_FEW = 40
_COLLAPSES, _COLLAPSE_KEYS = 0.08, 3
_AGAIN = 0.03  # how often what was answered is posted once more
_BUSY_USERS, _BUSY = 0.02, 0.35  # this share of the users gets that share of all notifications
_LONGEST_BODY = 3_000
_LARGE, _LARGEST_DATA = 0.5, 12_000  # how often a busy user gets much at once: what is not read must add up
_PRIORITIES = tuple(str(priority) for priority in Priority)
_WEIGHTS = (1, 2, 5, 2)


class Poster:
    """One backend that posts in sequence."""

    def __init__(  # a backend, what it talks to and whom it knows
        self,
        number: int,
        caller: Caller,
        ledger: Ledger,
        users: Sequence[str],
        seed: int,
        topics: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        self.number = number
        self._caller = caller
        self._ledger = ledger
        self._users = users
        self._topics = topics  # and their subscribers
        self._busy = users[: max(1, int(len(users) * _BUSY_USERS))]
        self._generator = random.Random(f"{seed}/{number}")  # noqa: S311  # to be repeated, not to be secret
        self._nth = 0
        self._last: deque[str] = deque(maxlen=_LAST_FEW)
        self._prefix = f"prove-{seed}-{number}"

    async def post_at(self, rate: float, headers: dict[str, str], stop: asyncio.Event) -> None:
        """Post `rate` notifications a second until told to stop; ends when everything is answered."""
        while not stop.is_set():
            generator = self._generator
            if generator.random() < _BULK:
                count = generator.randint(*_BULK_SIZE)
                await self.bulk([self.draw() for _ in range(count)], headers)
            else:
                count = 1
                await self.single(self.draw(), headers)
            if generator.random() < _CANCELS:
                await self.cancel(generator.choice(self._last), headers)
            if generator.random() < _MISFITS:
                await self.misfit(headers)
            await pause(count / rate * generator.uniform(0.5, 1.5), stop)

    def draw(self) -> Posted:
        """Make up a notification."""
        generator = self._generator
        now = datetime.now(UTC)
        registered = self._type()
        if self._topics and generator.random() < _BROADCAST:
            topic, subscribers = generator.choice(list(self._topics.items()))
            priority = generator.choices(_PRIORITIES, _WEIGHTS)[0]
            return self.posted(subscribers, priority, topic=topic, registered="" if registered == BRIEF else registered)
        many = generator.random() < _SEVERAL
        users = {self._user() for _ in range(generator.randint(*_SEVERAL_USERS) if many else 1)}
        later = now + timedelta(seconds=generator.uniform(*_LATER_S)) if generator.random() < _LATER else None
        expires = None
        if registered != BRIEF and generator.random() < _EXPIRES:
            expires = (later or now) + timedelta(seconds=generator.uniform(*_EXPIRES_S))
        priority = "low" if registered == BRIEF else generator.choices(_PRIORITIES, _WEIGHTS)[0]
        collapse_key = f"key-{generator.randrange(_COLLAPSE_KEYS)}" if generator.random() < _COLLAPSES else ""
        return self.posted(
            tuple(sorted(users)),
            priority,
            deliver_at=later,
            expires_at=expires,
            collapse_key=collapse_key,
            registered=registered,
        )

    def _type(self) -> str:
        drawn = self._generator.random()
        for share, name in zip(_REGISTERED, _REGISTERED_TYPES, strict=True):
            if drawn < share:
                return name
            drawn -= share
        return ""

    def posted(
        self,
        users: tuple[str, ...],
        priority: str,
        *,
        deliver_at: datetime | None = None,
        expires_at: datetime | None = None,
        topic: str = "",
        collapse_key: str = "",
        registered: str = "",
    ) -> Posted:
        """Return the next notification of this poster."""
        self._nth += 1
        key = f"{self._prefix}-{self._nth}"
        return Posted(
            key, self.number, self._nth, users, priority, deliver_at, expires_at, topic, collapse_key, registered
        )

    def _user(self) -> str:
        return self._generator.choice(self._busy if self._generator.random() < _BUSY else self._users)

    async def single(self, posted: Posted, headers: dict[str, str]) -> None:
        """Post one."""
        body = self._body(posted)
        headers = {**headers, "Idempotency-Key": posted.key}
        answer = await self._until_answered("/v1/notifications", body, headers)
        self._accepted(posted, answer.json["id"])
        if self._generator.random() < _AGAIN:
            answer = await self._until_answered("/v1/notifications", body, headers)
            self._ledger.accept(posted, answer.json["id"])
            if answer.headers.get("Idempotent-Replayed") != "true":
                msg = f"the key {posted.key} was posted again and not answered as a replay"
                raise ViolationError(msg)

    async def bulk(self, posted: Sequence[Posted], headers: dict[str, str]) -> None:
        """Post several at once."""
        items = [{**self._body(each), "idempotency_key": each.key} for each in posted]
        answer = await self._until_answered("/v1/notifications/bulk", {"notifications": items}, headers)
        for each, result in zip(posted, answer.json["results"], strict=True):
            if result["status"] == "rejected":
                msg = f"an item of a bulk, {each.key}, was rejected: {result['error']}"
                raise ViolationError(msg)
            self._accepted(each, result["id"])

    def _accepted(self, posted: Posted, notification_id: str) -> None:
        self._ledger.accept(posted, notification_id)
        self._last.append(notification_id)

    async def cancel(self, notification_id: str, headers: dict[str, str]) -> None:
        """Cancel one, now and then twice; the second answer must be the first."""
        for _ in range(1 + (self._generator.random() < _LARGE)):
            answer = await self._caller.until_answered(
                "DELETE", f"/v1/notifications/{notification_id}", statuses=self._ledger.statuses, headers=headers
            )
            told = answer.expect(_DONE, what=f"the cancelling of {notification_id}").json
            self._ledger.cancel(notification_id, Cancelled(told["cancelled"], told["recalled"], told["already_read"]))

    async def misfit(self, headers: dict[str, str]) -> None:
        """Post what its type's schema does not allow: it must be refused, and then be nowhere."""
        body = {
            "to": {"user": self._user()},
            "type": BRIEF,
            "title": "misfit",
            "data": {"poster": self.number, "nth": "x"},
        }
        headers = {**headers, "Idempotency-Key": f"{self._prefix}-misfit"}
        answer = await self._caller.until_answered(
            "POST", "/v1/notifications", statuses=self._ledger.statuses, headers=headers, body=body
        )
        answer.expect(_REFUSED, what=f"a misfit of poster {self.number}")
        self._ledger.refused += 1

    async def _until_answered(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        answer = await self._caller.until_answered(
            "POST", path, statuses=self._ledger.statuses, headers=headers, body=body
        )
        self._ledger.retries += answer.tries - 1
        return answer.expect(_ACCEPTED, what=f"a notification of poster {self.number}")

    def _body(self, posted: Posted) -> dict[str, Any]:
        one = len(posted.users) == 1
        generator = random.Random(posted.key)  # noqa: S311  # the same at each try
        large = one and posted.users[0] in self._busy and generator.random() < _LARGE
        body: dict[str, Any] = {
            "to": _to(posted),
            "type": posted.type,
            "data": {"poster": posted.poster, "nth": posted.nth},
        }
        if posted.registered != BRIEF:
            body["priority"] = posted.priority
        if posted.is_worded:
            body["data"]["thread"] = thread_of(posted)
        else:
            body |= {"title": f"{posted.poster}: {posted.nth}", "body": "x" * generator.randrange(_LONGEST_BODY)}
        if large and posted.registered != GATHERED:  # of those, as many as may be are to fit into a digest
            body["data"]["much"] = "y" * generator.randrange(_LARGEST_DATA)
        if posted.collapse_key:
            body["collapse_key"] = posted.collapse_key
        if posted.deliver_at is not None:
            body["deliver_at"] = posted.deliver_at.isoformat()
        if posted.expires_at is not None:
            body["expires_at"] = posted.expires_at.isoformat()
        return body


def _to(posted: Posted) -> dict[str, Any]:
    if posted.topic:
        return {"topic": posted.topic}
    return {"user": posted.users[0]} if len(posted.users) == 1 else {"users": list(posted.users)}


async def subscribe(caller: Caller, ledger: Ledger, topic: str, users: Sequence[str], headers: dict[str, str]) -> None:
    """Subscribe users to a topic, a thousand at a time."""
    for start in range(0, len(users), MAX_USERS):
        answer = await caller.until_answered(
            "PUT",
            f"/v1/topics/{topic}/subscribers",
            statuses=ledger.statuses,
            headers=headers,
            body={"users": list(users[start : start + MAX_USERS])},
        )
        answer.expect(_DONE, what=f"subscribers of {topic}")

"""How fast a dispatcher goes that has more to do than it can do at once.

It stays little ahead of the socket nodes, so that what waits, waits in the outbox: there, what is more urgent overtakes
it; once it is numbered in an inbox, and in a node's channel, nothing does. And it gives way while a more urgent
priority is being dispatched. All of it is a courtesy with a time limit: nobody waits long for an answer that got lost.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import redis
import structlog

from models import redis_keys
from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable

log = structlog.get_logger(__name__)

_ANSWERS_AHEAD = 2  # per node: what it works on, and what is there when it has done so; the one being sent is extra
_ANSWER_S = 0.2
_DISTRUST_S = 5.0  # for how long a node that did not answer is not waited for
_LOW_BATCH = 100  # a critical one that comes into the quiet finds no more than three of these before it
_GIVING_WAY_BATCH = 25
_GIVING_WAY_PAUSE = 2.0  # of what the batch took: two thirds of the time belong to what is more urgent
_LONGEST_PAUSE_S = 0.1


class Pace:
    """One dispatcher's pace. Without Redis there is none: it goes as fast as it can.

    `limit` is how many rows the next batch may claim. A node is asked to answer once it was sent half as many pushes:
    one node alone answers each batch, and of many, each answers as often as its share of the work is worth.
    """

    def __init__(self, client: redis.Redis, bus: redis.Redis, priority: Priority, batch: int) -> None:
        self._redis = client
        self._bus = bus
        self._more_urgent = [redis_keys.hint_outstanding(other) for other in Priority if other.rank < priority.rank]
        self._batch = min(batch, _LOW_BATCH) if priority is Priority.LOW else batch
        self._ahead: Counter[str] = Counter()  # messages whose answer is awaited, by node
        self._sent: Counter[str] = Counter()  # pushes since a node was last asked to answer
        self._asked: set[str] = set()  # in the batch that is being published
        self._distrusted_until: dict[str, float] = {}
        self._answers = redis_keys.taken(uuid4().hex)
        self.limit = self._batch

    def answers_for(self, node: str, pushes: int) -> str:
        """Return where a node is to say that it has taken so many pushes; empty where it need not yet."""
        self._sent[node] += pushes
        if self._sent[node] < self.limit / 2:
            return ""
        self._sent[node] = 0
        self._asked.add(node)
        return self._answers

    def published(self, nodes: Iterable[str]) -> None:
        """Note which nodes were told, and so will answer where they were asked to."""
        now = time.monotonic()
        awaited = self._asked.intersection(nodes)
        self._asked.clear()
        self._ahead.update(node for node in awaited if self._distrusted_until.get(node, 0.0) < now)

    def rest(self, took_s: float) -> None:
        """Wait as long as is fair after a batch that took `took_s` and left something due."""
        try:
            self._until_taken()
            gives_way = bool(self._more_urgent) and bool(self._redis.exists(*self._more_urgent))
        except redis.RedisError as error:
            log.warning("redis is away; going on without it", error=str(error) or type(error).__name__)
            self._ahead.clear()
            gives_way = False
        self.limit = min(_GIVING_WAY_BATCH, self._batch) if gives_way else self._batch
        if gives_way:
            time.sleep(min(took_s * _GIVING_WAY_PAUSE, _LONGEST_PAUSE_S))

    def _until_taken(self) -> None:
        while max(self._ahead.values(), default=0) >= _ANSWERS_AHEAD:
            answer = self._bus.blpop([self._answers], timeout=_ANSWER_S)
            if answer is None:  # a node is gone, or slow, or Redis forgot: the others need not wait for it
                silent = [node for node, messages in self._ahead.items() if messages > 0]
                self._distrusted_until |= dict.fromkeys(silent, time.monotonic() + _DISTRUST_S)
                self._ahead.clear()
                return
            self._ahead[cast("bytes", answer[1]).decode()] -= 1

"""How what was committed reaches the socket nodes: one Redis message per node that holds one of the users or rooms.

`Router` only decides: it yields Redis commands and is sent their results, so that the worker (blocking) and the API
and socket server (asyncio) drive the same code. Everything here may fail or get lost; nodes repair from Postgres.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import orjson

from models import redis_keys
from models.frames import arrival, change, event_packet, inbox_frame
from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    import redis
    import redis.asyncio

Command = tuple[Any, ...]
AnswersFor = Callable[[str, int], str]  # a node and how many pushes it is sent -> `answers` as in `encode`
NO_PRIORITY = -1  # a change made by the user: pushed like an arrival, but not counted as one
WITHDRAWN = 7  # the same, behind what it takes back: by the channel that is not urgent
PRESENCE = 8  # somebody's status may have changed
ROOM_EVENT = 9  # after every priority: no room, however busy, delays what is urgent


@dataclass(frozen=True, slots=True)
class Push:
    """A stretch of one numbered log.

    `key` says whose: `models.redis_keys.user_key`, whose `packet` goes to clients as it is; or `room_key`, whose
    `packet` holds entries joined by commas, so that stretches can be put together; or `watch_key`, and then there are
    no numbers, and the message only says that there is something to look at.
    """

    key: str
    first: int
    last: int
    packet: bytes
    priority: int = NO_PRIORITY
    accepted_at: float = 0.0  # unix time at which the oldest entry in it was committed
    inbox_id: int = 0  # of arrivals, to note where they went; it is not sent


class Pushable(Protocol):
    """What can be published: a `Push`, or what becomes one when somebody is there for it."""

    @property
    def key(self) -> str:
        """As in `Push`."""

    @property
    def first(self) -> int:
        """As in `Push`."""

    @property
    def last(self) -> int:
        """As in `Push`."""

    @property
    def packet(self) -> bytes:
        """As in `Push`. Asked for only where a node holds the key."""

    @property
    def priority(self) -> int:
        """As in `Push`."""

    @property
    def accepted_at(self) -> float:
        """As in `Push`."""

    @property
    def inbox_id(self) -> int:
        """As in `Push`."""


Told = Mapping[str, "Sequence[Pushable]"]  # the nodes that were told, and what of


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What all who get a broadcast in the same words have in common."""

    tail: bytes  # of the item, from behind its number
    priority: int
    accepted_at: float


class BroadcastPush:
    """One user's share of a broadcast: its packet is written when it is asked for, which for most it never is."""

    __slots__ = ("_broadcast", "_unread", "_unseen", "first", "inbox_id", "key")

    def __init__(  # one of thousands: no time for anything but the fields
        self, key: str, inbox_id: int, seq: int, unread: int, unseen: int, broadcast: Broadcast
    ) -> None:
        self.key = key
        self.inbox_id = inbox_id
        self.first = seq
        self._unread = unread
        self._unseen = unseen
        self._broadcast = broadcast

    @property
    def last(self) -> int:
        """The same number: it is one arrival."""
        return self.first

    @property
    def priority(self) -> int:
        """That of the broadcast."""
        return self._broadcast.priority

    @property
    def accepted_at(self) -> float:
        """That of the broadcast."""
        return self._broadcast.accepted_at

    @property
    def packet(self) -> bytes:
        """The `inbox` event."""
        told = [arrival(self.first, self._broadcast.tail)]
        return event_packet("inbox", inbox_frame(self.first, self.first, told, self._unread, self._unseen))


def inbox_push(
    key: str, first: int, last: int, payload: bytes, priority: int, accepted_at: float, *, inbox_id: int = 0
) -> Push:
    """Return the push of an `inbox` frame."""
    return Push(key, first, last, event_packet("inbox", payload), priority, accepted_at, inbox_id)


def change_push(key: str, row: Mapping[str, Any], priority: int = NO_PRIORITY) -> Push:
    """Return the push of a change, from a row as `models.frames.change` takes it, with `unread` and `unseen`."""
    seq = row["seq"]
    payload = inbox_frame(seq, seq, [change(row)], row["unread"], row["unseen"])
    return inbox_push(key, seq, seq, payload, priority, 0.0)


def withdrawal_pushes(rows: Iterable[Mapping[str, Any]], priority: Priority) -> list[Push]:
    """Return what tells devices that something of `priority` was taken back, from the rows of `WITHDRAW`."""
    channel = NO_PRIORITY if priority.rank <= Priority.HIGH.rank else WITHDRAWN
    return [change_push(redis_keys.user_key(row["tenant"], row["user_id"]), row, channel) for row in rows]


def presence_push(key: str) -> Push:
    """Return the push that tells whoever watches a user to look again."""
    return Push(key, 0, 0, b"", PRESENCE)


def encode(pushes: Sequence[Pushable], answers: str = "") -> bytes:
    """Return one bus message: a line of JSON that says who and how long, then the packets end to end.

    `answers` names the Redis list in which the node is to say that it has taken the message; empty: it need not.
    """
    packets = [p.packet for p in pushes]  # once: a broadcast's are made when they are asked for
    stretches = [
        (p.key, p.first, p.last, len(packet), p.priority, p.accepted_at)
        for p, packet in zip(pushes, packets, strict=True)
    ]
    return b"%b\n%b" % (orjson.dumps((answers, stretches)), b"".join(packets))


def decode(message: bytes) -> tuple[str, Iterable[Push]]:
    """Return where to answer, and the pushes. Raises `ValueError` where the message is not from `encode`."""
    header, found, _ = message.partition(b"\n")
    if not found:
        msg = "a bus message without a header"
        raise ValueError(msg)
    answers, stretches = orjson.loads(header)
    return answers, _cut(message, len(header) + 1, stretches)


def nowhere(_node: str, _pushes: int) -> str:
    """Return that no node need answer."""
    return ""


def _cut(message: bytes, start: int, stretches: Iterable[tuple[str, int, int, int, int, float]]) -> Iterable[Push]:
    for key, first, last, length, priority, accepted_at in stretches:
        yield Push(key, first, last, message[start : start + length], priority, accepted_at)
        start += length


class Router:
    """Decides who gets what. Remembers which nodes it saw last, and asks those at once what they hold."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()

    def route(
        self, pushes: Sequence[Pushable], now: float, answers_for: AnswersFor = nowhere
    ) -> Generator[list[Command], list[Any], Told]:
        """Yield Redis commands, receive their results. Returns the nodes that were told, and what of.

        Nodes that nobody listens for are not addressed again.
        """
        if not pushes:
            return {}
        keys = [push.key for push in pushes]
        known = self._known  # others may route, and learn of other nodes, whenever this one waits for an answer
        alive, *flags = yield [
            ("ZRANGE", redis_keys.NODES, f"{now:.3f}", "+inf", "BYSCORE"),
            *[_what_it_holds(name, keys) for name in known],
        ]
        held = dict(zip(known, flags, strict=True))
        nodes = self._known = tuple(node.decode() for node in alive)
        if new := [name for name in nodes if name not in held]:
            held.update(zip(new, (yield [_what_it_holds(name, keys) for name in new]), strict=True))
        told = {
            name: mine
            for name in nodes
            if (mine := [push for push, flag in zip(pushes, held[name], strict=True) if flag])
        }
        if not told:
            return told
        heard = yield [
            ("PUBLISH", _channel(name, mine), encode(mine, answers_for(name, len(mine)))) for name, mine in told.items()
        ]
        gone = [name for name, listeners in zip(told, heard, strict=True) if not listeners]
        if gone:
            # What it held stays for now: its users count as present until they had time to come back elsewhere.
            yield [
                ("ZREM", redis_keys.NODES, *gone),
                *[("ZADD", redis_keys.DEPARTED, "NX", f"{now:.3f}", name) for name in gone],
            ]
        return {name: mine for name, mine in told.items() if name not in gone}


def _channel(node: str, pushes: Sequence[Pushable]) -> str:
    urgent = all(push.priority <= Priority.HIGH.rank for push in pushes)
    return redis_keys.urgent_channel(node) if urgent else redis_keys.node_channel(node)


def _what_it_holds(node: str, keys: Sequence[str]) -> Command:
    return ("SMISMEMBER", redis_keys.holdings(node), *keys)


class BlockingPublisher:
    """Publishes pushes through a blocking client."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._router = Router()

    def publish(self, pushes: Sequence[Pushable], answers_for: AnswersFor = nowhere) -> Told:
        """Tell the nodes, and return which were told, and what of. Raises `redis.RedisError`."""
        steps = self._router.route(pushes, time.time(), answers_for)
        try:
            commands = next(steps)
            while True:
                pipeline = self._client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                commands = steps.send(pipeline.execute())
        except StopIteration as done:
            return cast("Told", done.value)


class Publisher:
    """Publishes pushes through an asyncio client."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._router = Router()

    async def publish(self, pushes: Sequence[Pushable]) -> Told:
        """Tell the nodes, and return which were told, and what of. Raises `redis.RedisError`."""
        steps = self._router.route(pushes, time.time())
        try:
            commands = next(steps)
            while True:
                pipeline = self._client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                commands = steps.send(await pipeline.execute())
        except StopIteration as done:
            return cast("Told", done.value)

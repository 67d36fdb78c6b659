"""How what was committed reaches the socket nodes: one Redis message per node that holds one of the users.

`route` only decides: it yields Redis commands and is sent their results, so that the worker (blocking) and the API
and socket server (asyncio) drive the same code. Everything here may fail or get lost; nodes repair from Postgres.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from models import redis_keys
from models.frames import event_packet

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    import redis
    import redis.asyncio

Command = tuple[Any, ...]
NO_PRIORITY = -1  # a change made by the user: pushed like an arrival, but not counted as one


@dataclass(frozen=True, slots=True)
class Push:
    """One user's stretch of numbers, as the packet that goes to the client."""

    user: str  # models.redis_keys.user_key
    first: int
    last: int
    packet: bytes
    priority: int = NO_PRIORITY
    accepted_at: float = 0.0  # unix time at which the oldest notification in it was committed


def inbox_push(user: str, first: int, last: int, payload: bytes, priority: int, accepted_at: float) -> Push:
    """Return the push of an `inbox` frame."""
    return Push(user, first, last, event_packet("inbox", payload), priority, accepted_at)


def encode(pushes: Sequence[Push]) -> bytes:
    """Return one bus message: a line of JSON that says who and how long, then the packets end to end."""
    header = orjson.dumps([(p.user, p.first, p.last, len(p.packet), p.priority, p.accepted_at) for p in pushes])
    return b"%b\n%b" % (header, b"".join(p.packet for p in pushes))


def decode(message: bytes) -> Iterable[Push]:
    """Undo `encode`. Raises `ValueError` where the message is not one of ours."""
    header, found, _ = message.partition(b"\n")
    if not found:
        msg = "a bus message without a header"
        raise ValueError(msg)
    start = len(header) + 1
    for user, first, last, length, priority, accepted_at in orjson.loads(header):
        yield Push(user, first, last, message[start : start + length], priority, accepted_at)
        start += length


def route(pushes: Sequence[Push], now: float) -> Generator[list[Command], list[Any], int]:
    """Decide who gets what. Returns how many nodes were told; nodes that nobody listens for are forgotten."""
    (nodes,) = yield [("ZRANGE", redis_keys.NODES, f"{now:.3f}", "+inf", "BYSCORE")]
    if not nodes or not pushes:
        return 0
    names = [node.decode() for node in nodes]
    users = [push.user for push in pushes]
    held = yield [("SMISMEMBER", redis_keys.node_users(name), *users) for name in names]
    told = {
        name: mine
        for name, flags in zip(names, held, strict=True)
        if (mine := [push for push, flag in zip(pushes, flags, strict=True) if flag])
    }
    if not told:
        return 0
    heard = yield [("PUBLISH", redis_keys.node_channel(name), encode(mine)) for name, mine in told.items()]
    gone = [name for name, listeners in zip(told, heard, strict=True) if not listeners]
    if gone:
        yield [
            ("ZREM", redis_keys.NODES, *gone),
            ("UNLINK", *[redis_keys.node_users(name) for name in gone]),
        ]
    return len(told) - len(gone)


def push_blocking(client: redis.Redis, pushes: Sequence[Push]) -> int:
    """Drive `route` on a blocking client. Raises `redis.RedisError`."""
    steps = route(pushes, time.time())
    try:
        commands = next(steps)
        while True:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            commands = steps.send(pipeline.execute())
    except StopIteration as done:
        return int(done.value)


async def push(client: redis.asyncio.Redis, pushes: Sequence[Push]) -> int:
    """Drive `route` on an asyncio client. Raises `redis.RedisError`."""
    steps = route(pushes, time.time())
    try:
        commands = next(steps)
        while True:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            commands = steps.send(await pipeline.execute())
    except StopIteration as done:
        return int(done.value)

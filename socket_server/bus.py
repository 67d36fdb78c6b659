"""What this node hears from the workers: its own channels in Redis, each listened to by a task that cannot die quietly.

A channel has a connection of its own, so that what is urgent does not queue behind what is much. That lets pushes of
one user overtake each other, which the connection's numbers show, and reading the log mends.

The node sends itself a ping every two seconds; three missing answers make it not ready and start the listener anew.
Whatever is lost meanwhile, the comparison of heads brings.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import redis.asyncio
import structlog

from models.outage import Outage
from models.push import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.push import Push

log = structlog.get_logger(__name__)

_PING = b"ping"
_PING_INTERVAL_S = 2.0
_MISSES = 3
_PAUSE_S = 0.5
_ANSWERS_KEPT_S = 60
_ANSWER = "redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('EXPIRE', KEYS[1], ARGV[2])"
_PUSHES_AT_ONCE = 256  # fewer let critical ones through sooner, and cost throughput: decision 0008


class Bus:
    """Listens on one channel and hands over every push."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        node: str,
        channel: str,
        on_push: Callable[[Push], None],
        on_resubscribed: Callable[[], None],
    ) -> None:
        self._redis = client
        self._node = node
        self._channel = channel
        self._on_push = on_push
        self._on_resubscribed = on_resubscribed
        self._heard_at = time.monotonic()
        self.subscribed = asyncio.Event()
        self._answer = client.register_script(_ANSWER)  # one command: it is sent for each message
        self._outage = Outage(log, "the bus is lost; what comes is found in Postgres meanwhile")

    @property
    def hears(self) -> bool:
        """Whether the node heard itself lately."""
        return self.subscribed.is_set() and time.monotonic() - self._heard_at < _PING_INTERVAL_S * (_MISSES + 0.5)

    async def listen(self) -> None:
        """Listen for ever; starts anew after every failure."""
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    await self._read(channel)
            except (redis.RedisError, OSError) as error:
                self._outage.goes_on(error, channel=self._channel)
            self.subscribed.clear()
            await asyncio.sleep(_PAUSE_S)

    async def _read(self, channel: redis.asyncio.client.PubSub) -> None:
        while True:
            message = await channel.get_message(timeout=_PING_INTERVAL_S)
            if message is None:
                if self.subscribed.is_set() and not self.hears:
                    msg = "the node does not hear its own pings"
                    raise redis.ConnectionError(msg)
                continue
            self._heard_at = time.monotonic()
            if message["type"] == "subscribe":
                self.subscribed.set()
                self._outage.is_over()
                self._on_resubscribed()
            elif message["type"] == "message" and message["data"] != _PING:
                await self._deliver(message["data"])

    async def _deliver(self, message: bytes) -> None:
        try:
            answers, pushes = decode(message)
            for nth, push in enumerate(pushes, 1):
                self._on_push(push)
                if nth % _PUSHES_AT_ONCE == 0:
                    await asyncio.sleep(0)  # let these go out, and the other channel have its turn
        except (ValueError, TypeError):
            log.exception("a bus message that cannot be read; the check of heads repairs what it held")
            return
        if answers:
            await asyncio.sleep(0)
            await self._say_taken(answers)

    async def _say_taken(self, answers: str) -> None:
        """Tell the dispatcher, which waits for it before it sends much more."""
        try:
            await self._answer(keys=[answers], args=[self._node, _ANSWERS_KEPT_S])
        except (redis.RedisError, OSError) as error:
            log.warning("cannot tell a dispatcher; it goes on by itself", error=str(error) or type(error).__name__)

    async def ping(self) -> None:
        """Ping for ever."""
        while True:
            try:
                await self._redis.publish(self._channel, _PING)
            except (redis.RedisError, OSError) as error:
                log.debug("cannot ping the bus", error=str(error) or type(error).__name__)
            await asyncio.sleep(_PING_INTERVAL_S)

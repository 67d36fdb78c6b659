"""How much somebody may ask of all processes together in a stretch of time.

Redis counts, by way of the library `limits`, but is not asked each time: a process lets a hundredth of the quota pass
on credit before it reports it, so a limit may be passed by a hundredth for each process, and a small one not at all.
While Redis is away each process counts for itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis.asyncio
import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from models import redis_keys, telemetry

if TYPE_CHECKING:
    from limits.util import WindowStats

log = structlog.get_logger(__name__)

WINDOW_S = 10
_CREDIT = 100  # one in so many passes before it is reported
_SMALL = 1_000  # quotas below it are asked for each time
_BUDGET_S = 0.25
_AWAY_S = 1.0  # for how long Redis is not asked after it did not answer
_MOST_ACCOUNTS = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something may pass, and what is left: `remaining` until `reset_in_s` from now."""

    allowed: bool
    remaining: int
    reset_in_s: float

    @property
    def retry_in_s(self) -> int:
        """After how many whole seconds to try again; at least one."""
        return max(1, math.ceil(self.reset_in_s))


@dataclass(slots=True)
class _Account:
    """What one process knows of one key."""

    since: float  # monotonic; when its stretch of time began
    spent: int = 0  # and not reported
    remaining: int = 0
    reset_at: float = 0.0
    refused_until: float = 0.0


class Quotas:
    """One kind of quota, `per_s` on average over ten seconds, for any number of keys. A `per_s` of 0: no limit."""

    def __init__(self, name: str, per_s: float, client: redis.asyncio.Redis) -> None:
        self.name = name
        self.amount = math.ceil(per_s * WINDOW_S)
        self._item = RateLimitItemPerSecond(self.amount, WINDOW_S, namespace=name)
        self._credit = self.amount // _CREDIT if self.amount >= _SMALL else 0
        self._shared = SlidingWindowCounterRateLimiter(
            RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=redis_keys.QUOTA_PREFIX,
                connection_pool=client.connection_pool,  # type: ignore[arg-type]  # as its documentation allows
            )
        )
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._away_until = 0.0
        self._accounts: dict[str, _Account] = {}

    async def take(self, key: str, cost: int = 1) -> Verdict:
        """Use some of a key's quota, or find that there is not enough left. Never fails."""
        if not self.amount:
            return Verdict(allowed=True, remaining=0, reset_in_s=0.0)
        now = time.monotonic()
        account = self._account(key, now)
        if now < account.refused_until:
            return Verdict(allowed=False, remaining=0, reset_in_s=account.refused_until - now)
        account.spent += cost
        if account.spent <= self._credit:
            left = max(0, account.remaining - account.spent)
            return Verdict(allowed=True, remaining=left, reset_in_s=max(0.0, account.reset_at - now))
        reported, account.spent = account.spent, 0
        return await self._report(key, account, reported)

    def _account(self, key: str, now: float) -> _Account:
        account = self._accounts.get(key)
        if account is None or now - account.since > WINDOW_S:  # what was not reported in time is forgiven
            if len(self._accounts) >= _MOST_ACCOUNTS:
                self._accounts = {each: kept for each, kept in self._accounts.items() if now - kept.since <= WINDOW_S}
            account = self._accounts[key] = _Account(now, remaining=self.amount, reset_at=now + WINDOW_S)
        return account

    async def _report(self, key: str, account: _Account, cost: int) -> Verdict:
        allowed, stats = await self._hit(key, cost)
        now = time.monotonic()
        reset_in_s = stats.reset_time - time.time()
        if reset_in_s <= 0:  # the library's way of saying that the stretch has just begun
            reset_in_s = WINDOW_S
        account.since, account.remaining, account.reset_at = now, stats.remaining, now + reset_in_s
        if not allowed and self._credit:
            account.refused_until = now + min(reset_in_s, 1.0)
        return Verdict(allowed=allowed, remaining=stats.remaining, reset_in_s=reset_in_s)

    async def _hit(self, key: str, cost: int) -> tuple[bool, WindowStats]:
        if time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(_BUDGET_S):
                    allowed = await self._shared.hit(self._item, key, cost=cost)
                    return allowed, await self._shared.get_window_stats(self._item, key)
            except (redis.RedisError, OSError, TimeoutError) as error:
                self._away_until = time.monotonic() + _AWAY_S
                telemetry.quota_failures.labels(self.name).inc()
                log.warning("redis is away; each process limits by itself", quota=self.name, error=str(error))
        allowed = await self._own.hit(self._item, key, cost=cost)
        return allowed, await self._own.get_window_stats(self._item, key)

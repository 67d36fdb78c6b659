"""How much somebody may ask of all processes together in a stretch of time.

Redis counts, by way of the library `limits`, but is not asked each time: a process lets a hundredth of the quota pass
on credit and then reports it, and lets nothing more pass before the report is accepted. What Redis does not know of is
a hundredth for each process at most, and of a small quota nothing; where ten seconds go by without a report, it is
forgiven. While Redis is away each process counts for itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
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
_REFUSED_S = (0.1, 1.0)  # for how long, at least and at most, Redis is not asked after it refused a large quota
_FORGOTTEN_AT_ONCE = 2  # accounts, for each that is new: what has grown shrinks again, and no call does much


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

    since: float  # monotonic; when it was last reported, or began
    spent: int = 0  # and not known to Redis
    remaining: int = 0
    reset_at: float = 0.0
    refused_until: float = 0.0
    reporting: asyncio.Lock = field(default_factory=asyncio.Lock)


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
        self._accounts: OrderedDict[str, _Account] = OrderedDict()  # by `since`, the oldest first

    async def take(self, key: str, cost: int = 1) -> Verdict:
        """Use some of a key's quota, or find that there is not enough left. Never fails."""
        if not self.amount:
            return Verdict(allowed=True, remaining=0, reset_in_s=0.0)
        now = time.monotonic()
        account = self._account(key, now)
        if not self._credit:
            return await self._report(key, account, cost)
        verdict = self._on_credit(account, cost, now)
        if verdict is None:
            async with account.reporting:  # or each that comes before the answer would begin another credit
                verdict = self._on_credit(account, cost, time.monotonic()) or await self._report(key, account, cost)
        return verdict

    def _on_credit(self, account: _Account, cost: int, now: float) -> Verdict | None:
        """Decide without Redis, where that can be done."""
        if now < account.refused_until:
            return Verdict(allowed=False, remaining=0, reset_in_s=account.refused_until - now)
        if account.spent + cost > self._credit:
            return None
        account.spent += cost
        left = max(0, account.remaining - account.spent)
        return Verdict(allowed=True, remaining=left, reset_in_s=max(0.0, account.reset_at - now))

    def _account(self, key: str, now: float) -> _Account:
        """Return the account of a key. There are no more than there were keys in use within one stretch of time."""
        account = self._accounts.get(key)
        if account is None or now - account.since > WINDOW_S:  # what was not reported in time is forgiven
            self._forget_some(now)
            account = _Account(now, remaining=self.amount, reset_at=now + WINDOW_S)
            self._renew(key, account, now)
        return account

    def _forget_some(self, now: float) -> None:
        for _ in range(_FORGOTTEN_AT_ONCE):
            oldest = next(iter(self._accounts.values()), None)
            if oldest is None or now - oldest.since <= WINDOW_S:
                return
            self._accounts.popitem(last=False)

    def _renew(self, key: str, account: _Account, now: float) -> None:
        account.since = now
        self._accounts[key] = account
        self._accounts.move_to_end(key)

    async def _report(self, key: str, account: _Account, cost: int) -> Verdict:
        self._renew(key, account, time.monotonic())
        owed = account.spent
        # Not more than the whole quota: a cost just below it would be refused for as long as anything is owed.
        allowed, stats = await self._hit(key, max(cost, min(owed + cost, self.amount)))
        now = time.monotonic()
        reset_in_s = stats.reset_time - time.time()
        if reset_in_s <= 0:  # the library's way of saying that the stretch has just begun
            reset_in_s = WINDOW_S
        account.remaining, account.reset_at = stats.remaining, now + reset_in_s
        if allowed:
            account.spent -= owed
        elif self._credit:
            least_s, most_s = _REFUSED_S
            account.refused_until = now + min(max(reset_in_s, least_s), most_s)
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

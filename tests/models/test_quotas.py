"""Quotas are shared by all processes, exact where they are small, and local where Redis is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from models import quotas
from models.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url) as connected:
        yield connected


async def taken(quota: Quotas, times: int, key: str = "k", cost: int = 1) -> int:
    return sum([(await quota.take(key, cost)).allowed for _ in range(times)])


async def test_a_small_quota_is_exact_over_all_processes(client: redis.asyncio.Redis) -> None:
    one, two = Quotas("small", 2, client), Quotas("small", 2, client)
    passed = await asyncio.gather(*(taken(quota, 10) for quota in (one, two) * 2))
    assert sum(passed) == 20
    assert await taken(one, 1, "another key") == 1


async def test_it_says_what_is_left_and_until_when(client: redis.asyncio.Redis) -> None:
    quota = Quotas("small", 1, client)
    first, second = await quota.take("k", 3), await quota.take("k", 3)
    assert (first.allowed, first.remaining, second.remaining) == (True, 7, 4)
    assert 0 < second.reset_in_s <= 10
    refused = await quota.take("k", 5)
    assert (refused.allowed, refused.remaining) == (False, 4)
    assert 1 <= refused.retry_in_s <= 10
    assert (await quota.take("k", 4)).allowed  # what was refused was not charged


async def test_a_large_quota_is_passed_by_a_hundredth_for_each_process_at_most(client: redis.asyncio.Redis) -> None:
    one, two = Quotas("large", 1_000, client), Quotas("large", 1_000, client)
    passed = sum(await asyncio.gather(taken(one, 8_000), taken(two, 8_000)))
    assert 10_000 <= passed <= 10_000 + 2 * 100


async def test_redis_is_seldom_asked_about_a_large_one(client: redis.asyncio.Redis) -> None:
    before = await scripts_run(client)
    await taken(Quotas("large", 1_000, client), 5_000)
    assert 0 < await scripts_run(client) - before < 2 * 5_000 / 100 + 10


async def scripts_run(client: redis.asyncio.Redis) -> int:
    statistics = await client.info("commandstats")
    return sum(each["calls"] for name, each in statistics.items() if "evalsha" in name)


async def test_where_redis_is_away_each_process_limits_by_itself() -> None:
    async with redis.asyncio.Redis.from_url("redis://127.0.0.1:1") as nowhere:
        one, two = Quotas("small", 1, nowhere), Quotas("small", 1, nowhere)
        assert (await taken(one, 15), await taken(two, 15)) == (10, 10)


async def test_it_goes_back_to_redis_when_that_is_there_again(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "_AWAY_S", 0.1)
    quota = Quotas("small", 1, client)
    original = quota._shared.hit

    async def failing(*_: object, **__: object) -> bool:
        raise redis.asyncio.ConnectionError

    monkeypatch.setattr(quota._shared, "hit", failing)
    assert await taken(quota, 4) == 4
    monkeypatch.setattr(quota._shared, "hit", original)
    await asyncio.sleep(0.15)
    assert (await quota.take("k")).remaining == 9


async def test_a_stretch_of_time_ends(client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "WINDOW_S", 1)
    quota = Quotas("short", 5, client)
    assert await taken(quota, 8) == 5
    await asyncio.sleep(2.1)
    assert await taken(quota, 8) == 5


async def test_no_quota_is_no_limit(client: redis.asyncio.Redis) -> None:
    assert await taken(Quotas("none", 0, client), 100) == 100


async def test_what_is_known_of_keys_is_bounded(client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "_MOST_ACCOUNTS", 10)
    monkeypatch.setattr(quotas, "WINDOW_S", 0)
    quota = Quotas("many", 1_000, client)
    quota.amount = 10_000
    for nth in range(100):
        await quota.take(f"k_{nth}")
        await asyncio.sleep(0.001)
    assert len(quota._accounts) <= 11

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


# --- credit ----------------------------------------------------------------------------------------------------------


async def test_a_refusal_begins_no_new_credit(client: redis.asyncio.Redis) -> None:
    quota = Quotas("large", 1_000, client)
    assert 10_000 <= await taken(quota, 10_200) <= 10_000 + 100
    for _ in range(5):
        ask_again(quota)
        assert await taken(quota, 50) == 0


async def test_what_passed_on_credit_is_counted_once_there_is_room(client: redis.asyncio.Redis) -> None:
    quota = Quotas("large", 1_000, client)
    assert await taken(quota, 100) == 100
    assert (await Quotas("large", 1_000, client).take("k", 10_000)).allowed
    assert not (await quota.take("k")).allowed
    await client.flushdb()  # the stretch of time has ended
    ask_again(quota)
    assert (await quota.take("k")).remaining == 10_000 - 101
    assert await taken(quota, 100) == 100


async def test_what_comes_while_a_process_reports_has_no_credit_of_its_own(client: redis.asyncio.Redis) -> None:
    quota = Quotas("large", 1_000, client)
    assert (await quota.take("k", 10_000)).allowed
    verdicts = await asyncio.gather(*(quota.take("k", 10) for _ in range(500)))
    assert sum(verdict.allowed for verdict in verdicts) == 10


async def test_the_whole_quota_passes_at_once_whatever_passed_on_credit(client: redis.asyncio.Redis) -> None:
    quota = Quotas("large", 100, client)
    assert await taken(quota, 5) == 5
    assert (await quota.take("k", 1_000)).allowed
    ask_again(quota)
    assert not (await quota.take("k", 1_000)).allowed


def ask_again(quota: Quotas) -> None:
    """Let the time be over for which Redis is not asked after a refusal."""
    quota._accounts["k"].refused_until = 0.0


# --- what is known of keys -------------------------------------------------------------------------------------------


async def test_only_keys_of_one_stretch_of_time_are_known(client: redis.asyncio.Redis) -> None:
    quota = Quotas("many", 1_000, client)
    for nth in range(1_000):
        quota._account(f"k_{nth}", now=nth * 0.1)
        assert len(quota._accounts) <= 102


async def test_a_crowd_is_forgotten_a_little_at_a_time(client: redis.asyncio.Redis) -> None:
    quota = Quotas("many", 1_000, client)
    known = quota._accounts
    sizes = []
    for nth in range(1_000):
        quota._account(f"early_{nth}", now=0.0)
    for nth in range(1_000):
        quota._account(f"late_{nth}", now=11.0)
        sizes.append(len(known))
    assert sizes == [*range(999, 499, -1), *range(501, 1_001)]
    assert quota._accounts is known


async def test_keys_are_forgotten_in_the_order_in_which_they_were_renewed(client: redis.asyncio.Redis) -> None:
    quota = Quotas("many", 1_000, client)
    for key in ("a", "b", "c"):
        await quota.take(key)
    await taken(quota, 100, "a")  # and reports
    assert list(quota._accounts) == ["b", "c", "a"]
    began = quota._accounts["b"].since
    quota._account("b", now=began + 10.1)
    assert (list(quota._accounts)[-1], quota._accounts["b"].spent) == ("b", 0)

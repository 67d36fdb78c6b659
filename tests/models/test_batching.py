"""Calls that share a statement: each gets its own answer, whenever it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from models.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Sequence


class Doubling:
    """Doubles numbers, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, asked: Sequence[int]) -> Sequence[int | BaseException]:
        self.batches.append(list(asked))
        await self.go.wait()
        return [ValueError(one) if one < 0 else one * 2 for one in asked]


async def test_a_call_in_the_very_moment_in_which_a_lane_ends_is_answered() -> None:
    double = Batcher[int, int](Doubling(), limit=10)
    async with asyncio.timeout(5):
        for one in range(100):
            assert await double(one) == one * 2


async def test_calls_that_come_while_a_batch_runs_share_the_next_one() -> None:
    doubling = Doubling()
    doubling.go.clear()
    double = Batcher[int, int](doubling, limit=3)
    calls = [asyncio.create_task(double(one)) for one in range(6)]
    await asyncio.sleep(0)
    doubling.go.set()
    assert await asyncio.gather(*calls) == [0, 2, 4, 6, 8, 10]
    assert doubling.batches == [[0, 1, 2], [3, 4, 5]]


async def test_one_bad_call_fails_alone_and_a_cancelled_one_is_left_out() -> None:
    doubling = Doubling()
    doubling.go.clear()
    double = Batcher[int, int](doubling, limit=10)
    first = asyncio.create_task(double(1))
    await asyncio.sleep(0)
    bad, good, gone = (asyncio.create_task(double(one)) for one in (-1, 2, 3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    doubling.go.set()
    assert (await first, await good) == (2, 4)
    with pytest.raises(ValueError, match="-1"):
        await bad
    assert doubling.batches == [[1], [-1, 2]]


async def test_a_batch_that_fails_fails_each_of_its_calls_and_no_other() -> None:
    async def fail_once(asked: Sequence[int]) -> Sequence[int | BaseException]:
        if 1 in asked:
            raise ConnectionError
        return asked

    batcher = Batcher[int, int](fail_once, limit=1)
    answers = await asyncio.gather(batcher(1), batcher(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError, int]

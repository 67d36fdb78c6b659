from __future__ import annotations

import asyncio

from models.background import end


async def test_a_task_that_lets_one_cancellation_pass_is_ended_all_the_same() -> None:
    asked = 0

    async def stubborn() -> None:
        nonlocal asked
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asked += 1
                if asked > 1:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end([task])
    assert (task.cancelled(), asked) == (True, 2)


async def test_the_end_of_a_failed_task_is_its_own_affair() -> None:
    async def failing() -> None:
        raise RuntimeError

    task = asyncio.create_task(failing())
    await end([task])
    assert task.done()

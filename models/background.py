"""How a task that runs in the background is ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_ASK_AGAIN_S = 0.2


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and return when each is done, whatever it ended with.

    One request is not always enough: in Python 3.11 `asyncio.wait_for`, which Redis' client sends with, loses a
    cancellation that arrives just as what it waits for is done (python/cpython#86296).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=_ASK_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # whoever started it has reported it; unread, it would be reported again

"""A pause between two things that something does again and again, cut short when all is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Return after so many seconds, or at once when told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()

"""Lets digests close while everything else goes on: by REST, and by letting time pass for them.

A digest's shortest time is a minute, and a seed may have little more than one. So every few seconds some of them are
due at once, and the sweep finds them as it finds all others.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from ops.prove import truth
from ops.prove.pause import pause

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from ops.prove.calls import Caller
    from ops.prove.ledger import Ledger

_OK = 200
_PAUSE_S = (1.0, 3.0)
_SHARE = (0.1, 0.6)  # of the open ones
_USERS = 6  # whose digests are closed by REST, each time

# In whatever order, and so without waiting for anybody: whoever holds one is about to add to it, or to close it.
_HASTEN = """
UPDATE digest SET closes_at = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM digest WHERE closed_at IS NULL AND closes_at > now() AND random() < %(share)s FOR UPDATE SKIP LOCKED
)) AND closed_at IS NULL
"""


class Closer:
    """Closes what is open, again and again."""

    def __init__(self, database_url: str, caller: Caller, ledger: Ledger, users: Sequence[str], seed: int) -> None:
        self._database_url = database_url
        self._caller = caller
        self._ledger = ledger
        self._users = users
        self._generator = random.Random(f"{seed}/closer")  # noqa: S311  # to be repeated, not to be secret

    async def close_until(self, stop: asyncio.Event, headers: dict[str, str]) -> None:
        """Close some every now and then, until told to stop."""
        generator = self._generator
        while not stop.is_set():
            for user in generator.sample(self._users, min(_USERS, len(self._users))):
                await self._close(user, headers)
            with suppress(psycopg.Error):  # postgres is away; the next time will do
                await self.hasten(generator.uniform(*_SHARE))
            await pause(generator.uniform(*_PAUSE_S), stop)

    async def hasten(self, share: float = 1.0) -> None:
        """Let the time come for a share of the open digests. Raises `psycopg.Error`."""
        async with await truth.connect(self._database_url) as database:
            await database.execute(_HASTEN, {"share": share})

    async def _close(self, user: str, headers: dict[str, str]) -> None:
        """Ask once: whoever gets no answer need not know whether they have closed."""
        answer = await self._caller.once(
            "POST", f"/v1/users/{user}/digests/close", statuses=self._ledger.statuses, headers=headers
        )
        if answer is not None:
            answer.expect(_OK, what=f"closing the digests of {user}")

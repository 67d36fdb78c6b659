"""Backends that say in rooms what happened: one event after another, each until it has an answer.

Invariant: a speaker's next event leaves after the answer to its last one, so the order in which it spoke is known.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ops.prove.alarm import ViolationError
from ops.prove.ledger import Said
from ops.prove.pause import pause

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from ops.prove.calls import Caller
    from ops.prove.ledger import Ledger

_ACCEPTED = 202
_AGAIN = 0.05  # how often what was answered is said once more
_BUSY = 0.5  # of all events, in one room
_LONGEST = 2_000


class Speaker:
    """One backend that speaks in sequence."""

    def __init__(self, number: int, caller: Caller, ledger: Ledger, rooms: Sequence[str], seed: int) -> None:
        self.number = number
        self._caller = caller
        self._ledger = ledger
        self._rooms = rooms
        self._generator = random.Random(f"{seed}/speaker/{number}")  # noqa: S311  # to be repeated, not to be secret
        self._prefix = f"said-{seed}-{number}"
        self._nth = 0

    async def speak_at(self, rate: float, headers: dict[str, str], stop: asyncio.Event) -> None:
        """Say `rate` things a second until told to stop; ends when everything is answered."""
        while not stop.is_set():
            await self.speak(headers)
            await pause(self._generator.expovariate(rate), stop)

    async def speak(self, headers: dict[str, str]) -> None:
        """Say one thing."""
        generator = self._generator
        self._nth += 1
        room = self._rooms[0] if generator.random() < _BUSY else generator.choice(self._rooms)
        said = Said(f"{self._prefix}-{self._nth}", room, self.number, self._nth)
        text = "z" * generator.randrange(_LONGEST)
        for time in range(1 + (generator.random() < _AGAIN)):
            body = {"event": "proof.said", "data": {"key": said.key, "text": text}}
            answer = await self._caller.until_answered(
                "POST",
                f"/v1/rooms/{room}/events",
                statuses=self._ledger.statuses,
                headers={**headers, "Idempotency-Key": said.key},
                body=body,
            )
            self._ledger.retries += answer.tries - 1
            answer.expect(_ACCEPTED, what=f"an event of speaker {self.number}")
            self._ledger.say(said, answer.json["seq"])
            if time and answer.headers.get("Idempotent-Replayed") != "true":
                msg = f"the event {said.key} was said again and not answered as a replay"
                raise ViolationError(msg)

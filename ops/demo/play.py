"""Plays the producers side by side on a stack, with a few of the cast watching.

Producers stop between two steps, never in the midst of a POST: whatever was accepted is in the ledger. Then it waits
for what is still on its way.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

from ops.demo.backend import Backend
from ops.demo.cast import AISHA, MIA, NOAH, OLENA, TARAS
from ops.demo.device import Device, Owner
from ops.demo.ledger import NOTIFICATION, Ledger, Posted, event_key
from ops.demo.producers import PRODUCERS, steps_of
from ops.demo.story import Notify, Say, Step

if TYPE_CHECKING:
    from ops.demo import Options

# Olena has two: what she reads on one becomes read on the other. Every domain's rooms are followed by somebody.
OWNERS = (
    Owner(OLENA, "phone", ("shop", "booking")),
    Owner(OLENA, "laptop", ("tasks",)),
    Owner(TARAS, "phone", ("blog", "events")),
    Owner(MIA, "tablet", ("learning",)),
    Owner(NOAH, "phone", ("social",)),
    Owner(AISHA, "phone"),
)
_STAGGER_S = 0.15
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """The stack that is spoken to."""

    api_url: str
    headers: dict[str, str]
    socket_urls: tuple[str, ...]


async def play(target: Target, options: Options, ledger: Ledger, stopping: asyncio.Event) -> None:
    """Play until the time is over or `stopping` is set. Raises `DemoError`."""
    async with httpx.AsyncClient(base_url=target.api_url, headers=target.headers, trust_env=False, timeout=10) as http:
        backend = Backend(http, secrets.token_hex(4))
        devices = [
            Device(owner, target.socket_urls[nth % len(target.socket_urls)], backend, ledger, _chance(options, owner))
            for nth, owner in enumerate(OWNERS)
        ]
        try:
            await asyncio.gather(*(device.connect() for device in devices))
            await _Play(options, backend, devices, ledger, stopping).run()
            await _until_all_has_arrived(ledger)
        finally:
            await asyncio.gather(*(device.close() for device in devices))


def _chance(options: Options, owner: Owner) -> random.Random:
    return random.Random(f"{owner.name} {options.seed}")  # noqa: S311  # to be repeated, not to be secret


async def _until_all_has_arrived(ledger: Ledger) -> None:
    kept_for_s = max(0.0, ledger.last_due() - time.monotonic())
    with suppress(TimeoutError):
        async with asyncio.timeout(kept_for_s + _PATIENCE_S):
            while ledger.missing():
                ledger.booked.clear()
                await ledger.booked.wait()


class _Play:
    def __init__(
        self, options: Options, backend: Backend, devices: list[Device], ledger: Ledger, stopping: asyncio.Event
    ) -> None:
        self._options = options
        self._backend = backend
        self._devices = devices
        self._ledger = ledger
        self._stopping = stopping

    async def run(self) -> None:
        domains = self._options.domains or tuple(PRODUCERS)
        timer = asyncio.create_task(self._end_in_time())
        telling = [asyncio.create_task(self._tell_of(domain, nth)) for nth, domain in enumerate(domains)]
        try:
            await asyncio.wait(telling, return_when=asyncio.FIRST_EXCEPTION)
            self._stopping.set()  # where one has failed, the others need not go on
            await asyncio.gather(*telling)
        finally:
            for task in (timer, *telling):
                task.cancel()

    async def _end_in_time(self) -> None:
        if self._options.seconds:
            await asyncio.sleep(self._options.seconds)
            self._stopping.set()

    async def _tell_of(self, domain: str, nth: int) -> None:
        await self._stopped_within(nth * _STAGGER_S)
        for step in steps_of(domain, self._options.seed, lambda: datetime.now(UTC)):
            if self._stopping.is_set():
                return
            await self._publish(domain, step)
            await self._stopped_within(step.wait_s)

    async def _stopped_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds / self._options.pace):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _publish(self, domain: str, step: Step) -> None:
        if isinstance(step, Notify):
            await self._notify(domain, step.body)
        else:
            await self._say(domain, step)

    async def _notify(self, domain: str, body: dict[str, Any]) -> None:
        to = body["to"]
        users = set(to.get("users") or [to["user"]])
        receivers = [device.owner for device in self._devices if device.owner.person.id in users]
        began, kept_for_s = time.monotonic(), 0.0
        if scheduled := body.get("deliver_at"):
            kept_for_s = (datetime.fromisoformat(scheduled) - datetime.now(UTC)).total_seconds()
        with self._ledger.posting():
            sent = await self._backend.notify(body)
            self._ledger.accepted(
                Posted(
                    key=(NOTIFICATION, sent),
                    domain=domain,
                    receivers=frozenset(owner.name for owner in receivers),
                    away=len(users - {owner.person.id for owner in receivers}),
                    due=began + max(0.0, kept_for_s),
                    scheduled=scheduled is not None,
                    collapse_key=body.get("collapse_key"),
                )
            )

    async def _say(self, domain: str, step: Say) -> None:
        # Whoever has the page open is in the room before anything happens; so nobody has to ask for what was before.
        receivers = [device.owner.name for device in self._devices if await device.follow(step.room)]
        began = time.monotonic()
        with self._ledger.posting():
            seq = await self._backend.say(step.room, step.event, step.data)
            self._ledger.accepted(
                Posted(
                    key=event_key(step.room, seq),
                    domain=domain,
                    receivers=frozenset(receivers),
                    away=0,
                    due=began,
                    scheduled=False,
                    collapse_key=None,
                )
            )

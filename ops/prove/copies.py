"""Reads every inbox over REST, as a program does that has just started, and holds each device's copy against it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from models.states import ListStatus
from ops.prove.fresh import Fresh, copy_equals, counts_are_right, list_is_right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.prove.calls import Caller
    from ops.prove.clients import Crowd
    from ops.prove.device import Device
    from ops.prove.ledger import Ledger

READERS = 16
_PAGE = 100
_OK = 200
_OTHERS = tuple(status for status in ListStatus if status is not ListStatus.ALL)


class Copies:
    """Compares; answers are counted in the ledger's statuses."""

    def __init__(self, crowd: Crowd, caller: Caller, ledger: Ledger) -> None:
        self._crowd = crowd
        self._caller = caller
        self._ledger = ledger

    async def compare(self, users: Sequence[str]) -> None:
        """Raise `ViolationError` where a device's copy differs from what REST answers."""
        devices: dict[str, list[Device]] = {user: [] for user in users}
        for device in self._crowd.devices:
            devices[device.user].append(device)
        gate = asyncio.Semaphore(READERS)

        async def of_user(number: int, user: str) -> None:
            async with gate:
                fresh = await self._fresh(user)
                for device in devices[user]:
                    copy_equals(user, device.replica, device.counts, fresh)
                # One of the other lists for each user: together they are all looked at many times.
                status = _OTHERS[number % len(_OTHERS)]
                page = await self._get(user, f"/v1/inbox?status={status}&limit={_PAGE}")
                list_is_right(user, status, fresh, page, _PAGE)
                counts_are_right(user, fresh, await self._get(user, "/v1/inbox/counts"))

        await asyncio.gather(*(of_user(number, user) for number, user in enumerate(users)))

    async def _fresh(self, user: str) -> Fresh:
        fresh, before = Fresh(), ""
        while True:
            following = fresh.add(await self._get(user, f"/v1/inbox?status=all&limit={_PAGE}{before}"))
            if following is None:
                return fresh
            before = f"&before={following}"

    async def presence(self, users: Sequence[str], headers: dict[str, str]) -> dict[str, str]:
        """Return everybody's status, as REST tells it to a backend."""
        found: dict[str, str] = {}
        for start in range(0, len(users), _PAGE):
            path = f"/v1/presence?users={','.join(users[start : start + _PAGE])}"
            answer = await self._caller.until_answered("GET", path, statuses=self._ledger.statuses, headers=headers)
            seen = answer.expect(_OK, what=path).json["users"]
            found |= {user: each["status"] for user, each in seen.items()}
        return found

    async def _get(self, user: str, path: str) -> dict[str, Any]:
        answer = await self._caller.until_answered(
            "GET",
            path,
            statuses=self._ledger.statuses,
            headers={"Authorization": f"Bearer {self._crowd.token(user)}"},
        )
        found: dict[str, Any] = answer.expect(_OK, what=f"{path} of {user}").json
        return found

"""The users: what they do to their inboxes, on several devices at once, by socket and by REST.

Invariant: what was confirmed is noted; what got no answer may or may not have been done, and is not done again.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from models.states import Action
from ops.prove.alarm import ViolationError
from ops.prove.ledger import Acted
from ops.prove.pause import pause

if TYPE_CHECKING:
    import asyncio

    from ops.prove.calls import Answer, Caller
    from ops.prove.clients import Crowd
    from ops.prove.device import Device
    from ops.prove.ledger import Ledger

_ANSWER_S = 8.0
_BY_SOCKET, _BY_REST, _PATCH, _REMOVE, _LOOK = range(5)
_WAYS = (5, 3, 1, 1, 2)
_UP_TO = 0.15
_MOST_SEQS = 5
_RECENT = 40
_OK, _NO_CONTENT, _NOT_FOUND = 200, 204, 404
_PASSING = {"unavailable", "rate_limited"}
_ACTIONS = (Action.READ, Action.SEEN, Action.UNREAD, Action.ARCHIVE, Action.UNARCHIVE, Action.DELETE)
_WEIGHTS = (5, 3, 2, 2, 1, 1)
_UP_TO_ACTIONS = (Action.READ, Action.SEEN)


class Actor:
    """Somebody who does one thing after another, each on a device at random."""

    def __init__(self, number: int, crowd: Crowd, caller: Caller, ledger: Ledger, seed: int) -> None:
        self._crowd = crowd
        self._caller = caller
        self._ledger = ledger
        self._generator = random.Random(f"{seed}/actor/{number}")  # noqa: S311  # to be repeated, not to be secret

    async def act_at(self, rate: float, stop: asyncio.Event) -> None:
        """Do about `rate` things a second until told to stop."""
        while not stop.is_set():
            await self._something()
            await pause(self._generator.expovariate(rate), stop)

    async def _something(self) -> None:
        device = self._generator.choice(self._crowd.devices)
        if not device.replica.items:
            return
        recent = sorted(device.replica.items)[-_RECENT:]
        seqs = self._generator.sample(recent, min(len(recent), self._generator.randint(1, _MOST_SEQS)))
        match self._generator.choices(range(len(_WAYS)), _WAYS)[0]:
            case way if way in {_BY_SOCKET, _BY_REST}:
                await self._act(device, seqs, by_socket=way == _BY_SOCKET)
            case way if way == _PATCH:
                await self._patch(device, seqs[0])
            case way if way == _REMOVE:
                await self._remove(device, seqs[0])
            case _:
                await self._look(device)

    async def _act(self, device: Device, seqs: list[int], *, by_socket: bool) -> None:
        if self._generator.random() < _UP_TO:
            action = self._generator.choice(_UP_TO_ACTIONS)
            wanted: dict[str, Any] = {"action": action, "up_to": max(seqs)}
        else:
            action = self._generator.choices(_ACTIONS, _WEIGHTS)[0]
            wanted = {"action": action, "seqs": seqs}
        done = await (self._ask(device, wanted) if by_socket else self._post(device, wanted))
        if done is None:
            self._ledger.unanswered += 1
            return
        self._ledger.confirmed += 1
        if done["changed"]:
            self._ledger.acted.append(Acted(device.user, done["seq"], str(action)))

    async def _ask(self, device: Device, wanted: dict[str, Any]) -> dict[str, Any] | None:
        connection = device.connection
        if connection is None or not connection.ready:
            return None
        answer = await connection.ask("act", wanted, _ANSWER_S)
        if answer is None or answer.get("ok"):
            return answer
        if answer.get("error", {}).get("code") not in _PASSING:
            msg = f"{wanted} of {device.user} by socket was answered {answer}"
            raise ViolationError(msg)
        return None

    async def _post(self, device: Device, wanted: dict[str, Any]) -> dict[str, Any] | None:
        answer = await self._rest(device, "POST", "/v1/inbox/actions", wanted)
        return None if answer is None else dict(answer.expect(_OK, what=f"{wanted} of {device.user}").json)

    async def _patch(self, device: Device, seq: int) -> None:
        wanted = self._generator.choice(({"read": True}, {"read": False}, {"archived": True}, {"seen": True}))
        answer = await self._rest(device, "PATCH", f"/v1/inbox/{seq}", wanted)
        self._count(answer)
        if answer is not None:  # another device may have deleted it
            answer.expect(_OK, _NOT_FOUND, what=f"{wanted} for {seq} of {device.user}")

    async def _remove(self, device: Device, seq: int) -> None:
        answer = await self._rest(device, "DELETE", f"/v1/inbox/{seq}", None)
        self._count(answer)
        if answer is not None:
            answer.expect(_NO_CONTENT, _NOT_FOUND, what=f"deleting {seq} of {device.user}")

    async def _look(self, device: Device) -> None:
        status = self._generator.choice(("active", "unread", "unseen", "archived", "all"))
        answer = await self._rest(device, "GET", f"/v1/inbox?status={status}&limit=50", None)
        if answer is None:
            return
        page = answer.expect(_OK, what=f"the {status} list of {device.user}").json
        seqs = [item["seq"] for item in page["items"]]
        if seqs != sorted(set(seqs), reverse=True) or (seqs and seqs[0] > page["seq"]):
            msg = f"the {status} list of {device.user}, whose head is {page['seq']}, has the numbers {seqs}"
            raise ViolationError(msg)

    async def _rest(self, device: Device, method: str, path: str, body: dict[str, Any] | None) -> Answer | None:
        headers = {"Authorization": f"Bearer {self._crowd.token(device.user)}"}
        return await self._caller.once(method, path, statuses=self._ledger.statuses, headers=headers, body=body)

    def _count(self, answer: Answer | None) -> None:
        if answer is None:
            self._ledger.unanswered += 1
        else:
            self._ledger.confirmed += 1

"""The domains' side of Bellhop: REST calls that are made again until they are answered, and are done once all the same.

Invariant: every attempt of a call carries the same `Idempotency-Key`, so that trying again can double nothing.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any

import httpx

_COME_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_PAUSE_S = 0.5  # where the answer does not say how long, or there is none
_PATIENCE_S = 60.0


class DemoError(Exception):
    """The stack does not do what it should; the text says what it did."""


class Backend:
    """Calls one API. `run` sets this run's idempotency keys apart from those of all others."""

    def __init__(self, http: httpx.AsyncClient, run: str) -> None:
        self._http = http
        self._run = run
        self._calls = 0

    async def notify(self, body: dict[str, Any]) -> str:
        """Post a notification. Returns its id. Raises `DemoError`."""
        return str((await self._post("/v1/notifications", body))["id"])

    async def say(self, room: str, event: str, data: dict[str, Any]) -> int:
        """Post a room's event. Returns its number. Raises `DemoError`."""
        return int((await self._post(f"/v1/rooms/{room}/events", {"event": event, "data": data}))["seq"])

    async def token(self, user: str, rooms: list[str], ttl_s: int) -> str:
        """Return a token with which a user's device connects, and joins these rooms. Raises `DemoError`."""
        return str((await self._post("/v1/tokens", {"user": user, "rooms": rooms, "ttl": ttl_s}))["token"])

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        headers = {"Idempotency-Key": f"demo-{self._run}-{self._calls}"}
        patient_until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                response = await self._http.post(path, json=body, headers=headers)
            except httpx.TransportError as error:
                pause_s, reason = _PAUSE_S, repr(error)
            else:
                if response.is_success:
                    answer: dict[str, Any] = response.json()
                    return answer
                reason = f"{response.status_code}: {response.text}"
                if response.status_code not in _COME_AGAIN:
                    msg = f"POST {path} was answered {reason}"
                    raise DemoError(msg)
                pause_s = _seconds(response.headers.get("Retry-After", ""))
            if time.monotonic() + pause_s > patient_until:
                msg = f"POST {path} was not accepted within {_PATIENCE_S:.0f} s; the last that was heard: {reason}"
                raise DemoError(msg)
            await asyncio.sleep(pause_s)


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else _PAUSE_S

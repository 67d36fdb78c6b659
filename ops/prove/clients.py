"""The receiving side: all devices, the ways that they go, and the tokens that they use."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from ops.prove.device import Device
from ops.prove.following import Following

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.prove.alarm import Alarm
    from ops.prove.silent_proxy import SilentProxy
    from ops.prove.target import Target

_SILENCE_S = 50.0  # Engine.IO pings every 25 s and waits 20 s for the answer: past both, nobody is there
_LOOK_S = 1.0
_TOKEN_S = (30, 60)  # of a connection's token, so that it has to be exchanged now and then
_ROOMS_EACH, _WATCHED_EACH, _AWAY = 3, 4, 0.3


class Crowd:
    """All devices."""

    def __init__(self, target: Target, alarm: Alarm, proxies: list[SilentProxy], seed: int) -> None:
        self.alarm = alarm
        self.generator = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self.devices: list[Device] = []
        self.proxies = proxies
        self.proxied = 0.0  # the share of connections that goes through a proxy
        self.leaving = False
        self.connects = self.losses = self.frames = 0
        self._target = target
        self.refreshes = self.changes = 0
        self._tokens: dict[str, str] = {}
        self._lives: list[asyncio.Task[Any]] = []

    def enter(self, user: str, devices: int, rooms: Sequence[str], users: Sequence[str]) -> None:
        """Let a user's devices begin to live, each following some of these rooms and users."""
        for nth in range(devices):
            following = Following(
                self.generator.sample(rooms, min(_ROOMS_EACH, len(rooms))),
                self.generator.sample(users, min(_WATCHED_EACH, len(users))),
                away=self.generator.random() < _AWAY,
            )
            device = Device(self, user, following, narrow=nth == 0)
            self.devices.append(device)
            self._lives.append(self.alarm.start(device.live(), f"a device of {user}"))

    def watch(self) -> None:
        """Begin to look for connections that have gone silent."""
        self._lives.append(self.alarm.start(self._notice_silence(), "notice silence"))

    async def _notice_silence(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            limit = time.monotonic() - _SILENCE_S
            for device in self.devices:
                if device.connection is not None and device.connection.heard_at < limit:
                    device.avoids_proxies = True
                    device.drop()

    def token(self, user: str) -> str:
        """Return a token for REST, which lasts."""
        if user not in self._tokens:
            self._tokens[user] = self._target.endpoint.token_of(user)
        return self._tokens[user]

    def short_token(self, user: str) -> str:
        """Return a token for a connection, which ends soon, and grants all rooms of the proof and all users."""
        return self._target.short_token(user, self.generator.randint(*_TOKEN_S))

    def statuses(self) -> dict[str, str]:
        """Return what everybody's presence must be, once all who are not gone are connected."""
        away: dict[str, list[bool]] = {}
        for device in self.devices:
            if not device.gone:
                away.setdefault(device.user, []).append(device.following.away)
        users = {device.user for device in self.devices}
        return {user: ("away" if all(away[user]) else "online") if user in away else "offline" for user in users}

    def way(self, *, direct: bool) -> tuple[str, SilentProxy | None]:
        """Choose a node, and whether to go to it through its proxy."""
        node = self.generator.randrange(len(self._target.socket_urls))
        if not direct and self.generator.random() < self.proxied:
            return self.proxies[node].url, self.proxies[node]
        return self._target.socket_urls[node], None

    async def leave(self) -> None:
        """Let all devices go away."""
        self.leaving = True
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        for device in self.devices:
            device.leave()

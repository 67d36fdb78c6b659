"""What the processes' counters say, summed over every process that ever lived under each name.

A counter dies with its process, so the last scrape of each is kept. It was counted after the commit and scraped some
time before the death: the sum may be less than what the database says, and never more.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from ops.prove.target import Target

COUNTERS = {
    "accepted": "bellhop_notifications_accepted_total",
    "dispatched": "bellhop_notifications_dispatched_total",
    "deliveries": "bellhop_deliveries_total",
    "expired": "bellhop_notifications_expired_total",
    "digests": "bellhop_digests_closed_total",
}
MENDED = {"repairs": "bellhop_repairs_total", "drops": "bellhop_drops_total"}  # of connections, by reason
_REASON = re.compile(r'reason="([^"]*)"')
_EVERY_S = 1.0
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


class Metrics:
    """The last scrape of each process."""

    def __init__(self, target: Target, http: aiohttp.ClientSession) -> None:
        self._target = target
        self._http = http
        self._last: dict[tuple[str, int], dict[str, float]] = {}
        self._mended: dict[tuple[str, int], dict[str, Counter[str]]] = {}

    async def scrape_regularly(self) -> None:
        """Scrape for ever."""
        while True:
            await self.scrape()
            await asyncio.sleep(_EVERY_S)

    async def scrape(self) -> None:
        """Scrape all that answer."""
        await asyncio.gather(*(self._scrape(name, url) for name, url in self._target.metrics_urls.items()))

    async def _scrape(self, name: str, url: str) -> None:
        pid = self._target.pids.get(name)
        try:
            async with self._http.get(url, timeout=_TIMEOUT) as response:
                text = await response.text()
        except (aiohttp.ClientError, OSError):  # it is down, or frozen: its last scrape counts
            return
        if pid is not None and response.ok and self._target.pids.get(name) == pid:
            self._last[name, pid] = counters_in(text)
            self._mended[name, pid] = mended_in(text)

    @property
    def restarts(self) -> int:
        """How many processes were started in place of others, as far as they lived to be scraped."""
        return len(self._last) - len({name for name, _ in self._last})

    def total(self) -> dict[str, float]:
        """Return each counter, summed."""
        return {name: sum(last[name] for last in self._last.values()) for name in COUNTERS}

    def mended(self) -> dict[str, dict[str, int]]:
        """Return how often nodes repaired and dropped connections, by reason."""
        return {
            name: dict(sorted(sum((last[name] for last in self._mended.values()), Counter()).items()))
            for name in MENDED
        }


def mended_in(text: str) -> dict[str, Counter[str]]:
    """Return what a node says of repairs and drops."""
    found: dict[str, Counter[str]] = {name: Counter() for name in MENDED}
    for line in text.splitlines():
        for name, metric in MENDED.items():
            if line.startswith(metric + "{") and (reason := _REASON.search(line)):
                found[name][reason[1]] += int(float(line.rpartition(" ")[2]))
    return found


def counters_in(text: str) -> dict[str, float]:
    """Return what a process counts, summed over labels."""
    found = dict.fromkeys(COUNTERS, 0.0)
    for line in text.splitlines():
        for name, metric in COUNTERS.items():
            if line.startswith((metric + "{", metric + " ")):
                found[name] += float(line.rpartition(" ")[2])
    return found

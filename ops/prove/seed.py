"""The way of one seed on a stack that has just started: chaos, convergence, a quiet round, and what is left over."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import aiohttp
import psycopg

from models.audit import audit
from models.settings import load_settings
from ops.prove import gathered, leaks, truth, verify, wording
from ops.prove.actors import Actor
from ops.prove.alarm import Alarm, ViolationError, some
from ops.prove.backends import Poster, subscribe
from ops.prove.calls import Caller
from ops.prove.catalogue import prefer, register
from ops.prove.clients import Crowd
from ops.prove.closer import Closer
from ops.prove.copies import READERS, Copies
from ops.prove.faults import Faults
from ops.prove.ledger import Ledger, Posted
from ops.prove.metrics import Metrics
from ops.prove.plan import Kind, plan
from ops.prove.silent_proxy import SilentProxy
from ops.prove.speakers import Speaker
from ops.prove.target import ROOMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ops.prove import Options
    from ops.prove.report import Figures
    from ops.prove.target import Target
    from ops.prove.truth import Digest

CONVERGE_S = 60.0  # from when everything is mended and answered, until everybody agrees
CONNECT_S = 60.0
COUNT_S = 15.0  # metrics are counted just after the commit
_POSTERS = 12
_ACTORS = 8
_SPEAKERS, _ROOMS = 6, 15
_EVENTS_PER_NOTIFICATION = 0.3
_ABSENT = 10  # users who leave for good in the round of absence
_TOPIC, _TOPICS, _READERS_OF_A_TOPIC = "blog:proof:", 3, 1_200
_OFFLINE_S = 65.0  # until everybody knows: Engine.IO notices after 45 s that a client went without a word
_ACTIONS_PER_NOTIFICATION = 0.15
_PROXIED = 0.3
_QUIET, _QUIET_EXPIRED = 200, 20
_POLL_S = 0.2
_NAMED_FAULTS = 5  # of those that an audit finds


class Seed:
    """Everything that takes part in one seed."""

    def __init__(self, options: Options, target: Target, figures: Figures, say: Callable[[str], None]) -> None:
        self._options = options
        self._target = target
        self._figures = figures
        self._say = say
        self._seed = figures.seed
        self._ledger = Ledger()
        self._closed: list[Digest] = []  # digests, when everybody last agreed

    async def run(self) -> None:
        """Go the whole way. Raises `ViolationError` at the first promise that is broken."""
        async with AsyncExitStack() as stack:
            self._alarm = Alarm()
            http = await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_POSTERS + _SPEAKERS + _ACTORS + READERS))
            )
            generator = random.Random(self._seed)  # noqa: S311  # to be repeated, not to be secret
            proxies = [SilentProxy(url) for url in self._target.socket_urls]
            for proxy in proxies:
                await proxy.open()
                stack.push_async_callback(proxy.close)
            self._http = http
            self._caller = Caller(http, self._target.api_url, generator)
            self._crowd = Crowd(self._target, self._alarm, proxies, self._seed)
            self._copies = Copies(self._crowd, self._caller, self._ledger)
            self._metrics = Metrics(self._target, http)
            self._faults = Faults(self._target, self._crowd, self._say)
            self._users = [f"user-{number}" for number in range(self._options.users)]
            self._topics = {f"{_TOPIC}{number}": self._subscribers(generator) for number in range(_TOPICS)}
            self._posters = [
                Poster(number, self._caller, self._ledger, self._users, self._seed, self._topics)
                for number in range(_POSTERS)
            ]
            self._closer = Closer(self._target.database_url, self._caller, self._ledger, self._users, self._seed)
            self._rooms = [f"{ROOMS}{number}" for number in range(_ROOMS)]
            self._speakers = [
                Speaker(number, self._caller, self._ledger, self._rooms, self._seed) for number in range(_SPEAKERS)
            ]
            stack.push_async_callback(self._crowd.leave)
            try:
                await self._alarm.guard(self._way())
            finally:
                self._note()
                await self._alarm.end()

    async def _way(self) -> None:
        await self._adopt()
        before = await leaks.measure(self._target)
        scraping = self._alarm.start(self._metrics.scrape_regularly(), "scrape")
        await self._enter()
        await self._chaos()
        await self._agree("after the chaos")
        await self._quiet_round()
        await self._agree("after the quiet round")
        await self._absence()
        self._say("all clients leave")
        await self._crowd.leave()
        scraping.cancel()
        await self._http.close()  # its connections would be kept open by their use
        after = await leaks.settle(self._target, before, load_settings().database_pool_size)
        growth = leaks.growth_mb(before, after)
        self._figures.memory_mb = round(max(growth.values(), default=0.0), 1)

    async def _adopt(self) -> None:
        """Take over what the stack has promised itself: its start is proven by a notification."""
        found = await truth.read(self._target.database_url)
        for notification_id, row in found.notifications.items():
            posted = Posted(row.key or "", -1, 0, row.users, row.priority, row.deliver_at, row.expires_at)
            self._ledger.accepted[notification_id] = posted

    async def _enter(self) -> None:
        generator = random.Random(self._seed)  # noqa: S311  # to be repeated, not to be secret
        self._crowd.proxied = _PROXIED
        for user in self._users:
            self._crowd.enter(user, generator.randint(1, self._options.devices), self._rooms, self._users)
        for topic, subscribers in self._topics.items():
            await subscribe(self._caller, self._ledger, topic, subscribers, self._target.endpoint.headers)
        await register(self._caller, self._ledger, self._target.endpoint.headers)
        await prefer(self._caller, self._ledger, self._users, self._target.endpoint.headers)
        self._crowd.watch()
        self._figures.connections = len(self._crowd.devices)
        await self._until(self._all_connected, CONNECT_S, "connected")

    def _subscribers(self, generator: random.Random) -> tuple[str, ...]:
        """Return some users, and many who have no device: enough for a broadcast to be done in several batches."""
        nobody = [f"reader-{number}" for number in range(_READERS_OF_A_TOPIC)]
        return tuple(sorted([*generator.sample(self._users, len(self._users) // 2), *nobody]))

    # --- chaos -----------------------------------------------------------------------------------------------

    async def _chaos(self) -> None:
        stop = asyncio.Event()
        headers = self._target.endpoint.headers
        posting = [
            self._alarm.start(poster.post_at(self._options.rate / _POSTERS, headers, stop), f"poster {poster.number}")
            for poster in self._posters
        ]
        speaking = [
            self._alarm.start(
                speaker.speak_at(self._options.rate * _EVENTS_PER_NOTIFICATION / _SPEAKERS, headers, stop),
                f"speaker {speaker.number}",
            )
            for speaker in self._speakers
        ]
        actors = [Actor(number, self._crowd, self._caller, self._ledger, self._seed) for number in range(_ACTORS)]
        rate = self._options.rate * _ACTIONS_PER_NOTIFICATION / _ACTORS
        acting = [self._alarm.start(actor.act_at(rate, stop), "actor") for actor in actors]
        closing = self._alarm.start(self._closer.close_until(stop, headers), "closer")
        kinds = [Kind(name) for name in self._options.faults] or list(Kind)
        faults = plan(self._seed, self._options.seconds, kinds)
        self._say(f"{len(faults)} faults in {self._options.seconds:g} s on {self._figures.connections} connections")
        until = time.monotonic() + self._options.seconds
        await self._faults.carry_out(faults)
        await asyncio.sleep(until - time.monotonic())
        self._caller.mended()
        stop.set()
        self._say("everything is mended; waiting for the last answers")
        await asyncio.gather(*posting, *speaking, *acting, closing)

    async def _agree(self, when: str) -> None:
        """Wait until nothing is on its way any more; then check every promise."""
        took_s = await self._until(self._behind, CONVERGE_S, f"converged {when}")
        self._figures.converged_s = max(self._figures.converged_s, round(took_s, 2))
        found = await truth.read(self._target.database_url)
        verify.everything(self._ledger, found)
        gathered.closed_ones_are_as_they_were(self._closed, found)
        self._closed = found.digests
        verify.room_copies_equal(self._crowd.devices, self._ledger, found)
        wording.devices_show_it(self._crowd.devices, self._ledger)
        await self._copies.compare(self._users)
        await self._metrics.scrape()
        counts = found.counts()
        verify.metrics_are_within(self._metrics.total(), verify.most_counted(self._ledger, found))
        for name, count in counts.items():
            setattr(self._figures, name, count)
        self._figures.gathered = sum(len(digest.ids) for digest in found.digests)
        self._figures.translated = wording.told_by_template(self._ledger, found)
        await self._audit()

    async def _audit(self) -> None:
        """Let the operator's own audit look, too."""
        audited = await asyncio.to_thread(audit, self._target.database_url, _NAMED_FAULTS)
        self._figures.audit_faults = audited.faults
        if audited.faults:
            named = some(f"{what} {fault}" for what, fault in audited.some)
            msg = f"an audit finds {audited.faults} faults: {named}"
            raise ViolationError(msg)

    async def _quiet_round(self) -> None:
        """Post without any fault: what metrics and database grow by must be the same."""
        self._say("a quiet round")
        pids = self._target.pids
        await self._metrics.scrape()
        metrics_before, truth_before = self._metrics.total(), (await truth.read(self._target.database_url)).counts()
        headers, past = self._target.endpoint.headers, datetime.now(UTC) - timedelta(minutes=1)
        await asyncio.gather(
            *(self._post_quietly(poster, headers, past, _QUIET // _POSTERS) for poster in self._posters),
            *(self._speak_quietly(speaker, headers, _QUIET // _SPEAKERS) for speaker in self._speakers),
        )
        await self._until(self._behind, CONVERGE_S, "converged in the quiet round")
        found = (await truth.read(self._target.database_url)).counts()
        deltas = {name: count - truth_before[name] for name, count in found.items()}
        deadline = time.monotonic() + COUNT_S
        while True:
            await self._metrics.scrape()
            counted = {name: count - metrics_before[name] for name, count in self._metrics.total().items()}
            if counted == deltas or time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        if restarted := sorted(name for name, pid in self._target.pids.items() if pids.get(name) != pid):
            msg = f"restarted in the quiet round, in which nothing was broken: {', '.join(restarted)}"
            raise ViolationError(msg)
        verify.deltas_are_equal(counted, deltas)

    async def _post_quietly(self, poster: Poster, headers: dict[str, str], past: datetime, count: int) -> None:
        await poster.bulk([poster.draw() for _ in range(count // 2)], headers)
        for _ in range(count - count // 2):
            await poster.single(poster.draw(), headers)
        ended = [poster.posted((user,), "normal", expires_at=past) for user in self._users[:_QUIET_EXPIRED:_POSTERS]]
        await poster.bulk(ended, headers)

    async def _speak_quietly(self, speaker: Speaker, headers: dict[str, str], count: int) -> None:
        for _ in range(count):
            await speaker.speak(headers)

    async def _absence(self) -> None:
        """Let some users go: whoever watches them must be told, and nobody else. Then let them come back."""
        self._say(f"{_ABSENT} users go")
        absent = set(self._users[:_ABSENT])
        for device in self._crowd.devices:
            if device.user in absent:
                device.go()
        await self._until(self._misinformed, _OFFLINE_S, "known to be offline")
        for device in self._crowd.devices:
            if device.user in absent:
                device.come_back()
        await self._until(self._behind, CONVERGE_S, "converged with everybody back")

    # --- waiting and comparing -------------------------------------------------------------------------------

    async def _until(self, wrong: Callable[[], Awaitable[str]], patience_s: float, what: str) -> float:
        """Wait until nothing is wrong and return how many seconds that took. Raises `ViolationError`."""
        began, last = time.monotonic(), ""
        while said := await wrong():
            last = said
            if time.monotonic() - began > patience_s:
                msg = f"not {what} within {patience_s:.0f} s: {said}"
                raise ViolationError(msg)
            await asyncio.sleep(_POLL_S)
        took_s = time.monotonic() - began
        self._say(f"{what} within {took_s:.1f} s" + (f"; at the end: {last}" if last else ""))
        return took_s

    async def _all_connected(self) -> str:
        missing = sum(not device.ready for device in self._crowd.devices)
        return f"{missing} devices are not connected" if missing else ""

    async def _behind(self) -> str:
        """Return what is still on its way; empty where nothing is."""
        try:
            await self._closer.hasten()
            waiting, heads, rooms = await truth.heads(self._target.database_url)
        except psycopg.OperationalError as error:
            return f"postgres: {error}"
        if waiting:
            return f"there wait {', '.join(f'{rows} {priority}' for priority, rows in waiting.items())}"
        behind = [
            f"{device.user} holds {device.replica.seq} of {heads.get(device.user, 0)}"
            + ("" if device.ready else " and is not connected")
            for device in self._crowd.devices
            if not device.ready or device.replica.seq != heads.get(device.user, 0)
        ]
        if behind:
            return f"{len(behind)} devices are behind, such as one of {behind[0]}"
        for device in self._crowd.devices:
            for copy in device.following.rooms.values():
                if copy.seq != (head := rooms.get(copy.name, 0)):
                    return f"a device of {device.user} holds {copy.seq} of {head} of {copy.name}"
        if misinformed := await self._misinformed():
            return misinformed
        return "; ".join(await self._target.unready(self._http))

    async def _misinformed(self) -> str:
        """Return who is wrong about whose presence; empty where nobody is."""
        expected = self._crowd.statuses()
        here = [device for device in self._crowd.devices if not device.gone]
        if unsettled := [device.user for device in here if not device.following.is_settled(device.connection)]:
            return f"{len(unsettled)} devices have not joined and watched everything yet, such as one of {unsettled[0]}"
        told = await self._copies.presence(self._users, self._target.endpoint.headers)
        if wrong := [user for user in self._users if told[user] != expected[user]]:
            return f"REST says that {wrong[0]} is {told[wrong[0]]}, who is {expected[wrong[0]]}"
        for device in here:
            for user, status in device.following.statuses.items():
                if status != expected[user]:
                    return f"a device of {device.user} takes {user} for {status}, who is {expected[user]}"
        return ""

    def _note(self) -> None:
        figures, ledger, crowd = self._figures, self._ledger, self._crowd
        figures.faults = {str(kind): count for kind, count in sorted(self._faults.injected.items())}
        figures.accepted = figures.accepted or len(ledger.accepted)
        figures.actions = ledger.confirmed
        figures.unanswered_actions = ledger.unanswered
        figures.events = len(ledger.said)
        figures.misfits = ledger.refused
        figures.cancelled = len(ledger.cancelled)
        figures.broadcasts = sum(bool(posted.topic) for posted in ledger.accepted.values())
        figures.frames = crowd.frames
        figures.presence_changes = crowd.changes
        figures.refreshes = crowd.refreshes
        figures.reconnects = crowd.connects - len(crowd.devices)
        figures.retries = ledger.retries
        figures.statuses = dict(sorted(ledger.statuses.items()))
        figures.restarts = self._metrics.restarts
        mended = self._metrics.mended()
        figures.repairs, figures.drops = mended["repairs"], mended["drops"]

"""The proof's parts against small servers: its devices, its backends, and its proxy."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from ops.prove import calls
from ops.prove.alarm import Alarm, ViolationError
from ops.prove.backends import Poster
from ops.prove.calls import Caller
from ops.prove.clients import Crowd
from ops.prove.device import Device
from ops.prove.following import Following
from ops.prove.ledger import BRIEF, GATHERED, WORDED, Cancelled, Ledger
from ops.prove.silent_proxy import SilentProxy
from tests.ops.test_prove import arrival, frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def alarm() -> AsyncIterator[Alarm]:
    ringing = Alarm()
    yield ringing
    await ringing.end()


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([("inbox", frame(1, 1, arrival(1)))], "before `ready`"),
        ([("ready", {"seq": 5, "reset": False, "user": "ada"})], "holds 0 and is told to go on from 5"),
        ([("ready", {"seq": 0, "reset": True, "user": "ada"})], "reset: True"),
        ([("ready", {"seq": 0, "reset": False, "user": "bob"})], "welcomed as bob"),
        (
            [("ready", {"seq": 0, "reset": False, "user": "ada", "counts": {}}), ("inbox", frame(2, 2, arrival(2)))],
            "a gap",
        ),
        ([("error", {"code": "ack_ahead"})], "was told of an error"),
        ([("inbox", {})], "not as the contract says|before `ready`"),
        ([("ready", {})], "not as the contract says"),
    ],
)
async def test_a_device_rings_the_alarm_at_once(alarm: Alarm, events: list[Any], said: str) -> None:
    crowd = Crowd(SimpleNamespace(), alarm, [], 1)  # type: ignore[arg-type]
    device = Device(crowd, "ada", Following([], [], away=False), narrow=False)
    connection = SimpleNamespace(ready=False, over=False)
    connection.be_ready = lambda: setattr(connection, "ready", True)
    for name, payload in events:
        device.event(connection, name, payload)  # type: ignore[arg-type]
    with pytest.raises(ViolationError, match=said):
        await alarm.guard(forever())


async def test_an_alarm_ends_what_it_guards_and_tells_of_the_first_violation(alarm: Alarm) -> None:
    async def broken() -> None:
        raise ViolationError("first")

    ended = asyncio.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.set()

    alarm.start(broken(), "broken")
    with pytest.raises(ViolationError, match="first"):
        await alarm.guard(work())
    assert ended.is_set()
    alarm.ring(ViolationError("second"))
    with pytest.raises(ViolationError, match="first"):
        await alarm.guard(forever())


@asynccontextmanager
async def api(*answers: Callable[[dict[str, Any], str], web.Response]) -> AsyncIterator[tuple[str, list[str]]]:
    """An API that gives each of the answers in turn, and then the last one again; with the keys that it was sent."""
    keys: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        keys.append(request.headers.get("Idempotency-Key", ""))
        nth = min(len(keys), len(answers)) - 1
        return answers[nth](await request.json(), keys[-1])

    application = web.Application()
    application.router.add_post("/{tail:.*}", answer)
    application.router.add_delete("/{tail:.*}", take_back)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}", keys
    finally:
        await runner.cleanup()


def accept(body: dict[str, Any], key: str) -> web.Response:
    if "notifications" in body:
        results = [{"status": "accepted", "id": f"of {item['idempotency_key']}"} for item in body["notifications"]]
        return web.json_response({"results": results}, status=202)
    if body["type"] == BRIEF and not isinstance(body["data"]["nth"], int):
        return web.json_response({"code": "validation_failed"}, status=422)
    return web.json_response({"id": f"of {key}"}, status=202, headers={"idempotent-replayed": "true"})


def accept_all(_body: dict[str, Any], key: str) -> web.Response:
    return web.json_response({"id": f"of {key}"}, status=202)


async def take_back(_: web.Request) -> web.Response:
    return web.json_response({"status": "cancelled", "cancelled": 1, "recalled": 0, "already_read": 0})


def be_unavailable(_body: dict[str, Any], _key: str) -> web.Response:
    return web.json_response({}, status=503)


def refuse(_body: dict[str, Any], _key: str) -> web.Response:
    return web.json_response({"code": "forbidden"}, status=403)


def reject_items(body: dict[str, Any], _key: str) -> web.Response:
    results = [{"status": "rejected", "error": {"code": "no"}} for _ in body["notifications"]]
    return web.json_response({"results": results}, status=202)


def hang_up(_body: dict[str, Any], _key: str) -> web.Response:
    raise ConnectionResetError


@asynccontextmanager
async def posting(url: str) -> AsyncIterator[tuple[Poster, Ledger, Caller]]:
    async with aiohttp.ClientSession() as http:
        caller, ledger = Caller(http, url, random.Random(1)), Ledger()  # noqa: S311  # only spreads retries
        yield Poster(0, caller, ledger, ["ada", "bob"], 1), ledger, caller


async def test_a_poster_asks_with_the_same_key_until_it_is_answered() -> None:
    async with api(be_unavailable, be_unavailable, accept) as (url, keys), posting(url) as (poster, ledger, _):
        posted = poster.draw()
        await poster.single(posted, {})
    assert keys[:3] == [posted.key] * 3
    assert ledger.accepted == {f"of {posted.key}": posted}
    assert ledger.statuses["503"] == ledger.retries == 2


async def test_a_poster_numbers_what_it_posts_until_it_is_told_to_stop() -> None:
    stop = asyncio.Event()
    async with api(accept) as (url, _), posting(url) as (poster, ledger, _):
        running = asyncio.create_task(poster.post_at(2_000, {}, stop))
        async with asyncio.timeout(20):
            while len(ledger.accepted) < 100 or not ledger.cancelled or not ledger.refused:  # noqa: ASYNC110  # nobody signals that there are enough
                await asyncio.sleep(0.01)
        stop.set()
        await running
    posted = ledger.accepted.values()
    assert [each.nth for each in posted] == list(range(1, len(posted) + 1))
    assert {each.priority for each in posted} == {"critical", "high", "normal", "low"}
    assert any(len(each.users) > 1 for each in posted)
    assert any(each.expires_at for each in posted)
    assert any(each.deliver_at for each in posted)
    assert {each.registered for each in posted} == {"", WORDED, BRIEF, GATHERED}
    assert ledger.cancelled.keys() <= ledger.accepted.keys()
    assert ledger.cancelled


async def test_cancelling_again_must_be_answered_as_before() -> None:
    ledger = Ledger()
    ledger.cancel("n1", Cancelled(0, 1, 0))
    ledger.cancel("n1", Cancelled(0, 1, 0))
    with pytest.raises(ViolationError, match=r"n1 was answered .*recalled=1.* and later .*recalled=0"):
        ledger.cancel("n1", Cancelled(0, 0, 1))


@pytest.mark.parametrize(
    ("answer", "bulk", "said"),
    [(refuse, False, "was answered 403"), (reject_items, True, "was rejected"), (refuse, True, "was answered 403")],
)
async def test_a_refusal_is_a_violation(answer: Any, *, bulk: bool, said: str) -> None:
    async with api(answer) as (url, _), posting(url) as (poster, _, _):
        with pytest.raises(ViolationError, match=said):
            await (poster.bulk([poster.draw()], {}) if bulk else poster.single(poster.draw(), {}))


async def test_a_misfit_that_is_accepted_is_a_violation() -> None:
    async with api(accept_all) as (url, _), posting(url) as (poster, ledger, _):
        with pytest.raises(ViolationError, match="a misfit of poster 0 was answered 202"):
            await poster.misfit({})
    assert ledger.refused == 0


async def test_no_answer_long_after_everything_was_mended_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PATIENCE_S", 0.2)
    async with api(be_unavailable) as (url, _), posting(url) as (poster, _, caller):
        caller.mended()
        with pytest.raises(ViolationError, match="got no answer"):
            await poster.single(poster.draw(), {})


async def test_what_gets_no_connection_is_counted_as_no_answer() -> None:
    async with api(accept) as (url, _):
        pass
    async with posting(url) as (_, _, caller):
        statuses: Counter[str] = Counter()
        assert await caller.once("GET", "/", statuses=statuses, headers={}) is None
    assert statuses == {"no connection": 1}


async def test_what_is_silenced_neither_forwards_nor_closes_and_the_rest_goes_on() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while portion := await reader.read(100):
            writer.write(portion)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = SilentProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await proxy.open()
    port = int(proxy.url.rpartition(":")[2])

    async def client() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        return reader, writer, writer.get_extra_info("sockname")[1]

    (cut, cut_writer, cut_port), (whole, whole_writer, _) = await client(), await client()
    assert proxy.silence([cut_port, 1]) == 1
    assert proxy.silence([cut_port]) == 0
    cut_writer.write(b"anybody?")
    whole_writer.write(b"still here")
    assert await whole.readexactly(10) == b"still here"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cut.read(1), 0.3)  # neither an answer nor an end
    whole_writer.close()
    await proxy.close()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await cut.readexactly(1)
    cut_writer.close()
    server.close()


async def test_a_proxy_whose_node_is_down_hangs_up() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    proxy = SilentProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    await server.wait_closed()
    await proxy.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    await proxy.close()

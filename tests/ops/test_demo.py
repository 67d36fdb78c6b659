"""The examples: posting what they tell, booking what arrives, and showing it."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from typer.testing import CliRunner

from ops.__main__ import app
from ops.demo import Options, session
from ops.demo.backend import Backend, DemoError
from ops.demo.cast import OLENA
from ops.demo.device import Device, Owner
from ops.demo.ledger import NOTIFICATION, Arrival, Ledger, Posted, event_key
from ops.demo.play import Target
from ops.demo.screen import Line, Screen
from tests.socket_server.conftest import eventually, running_node

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from models.settings import Settings


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Backend:
    return Backend(httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(answer)), "run")


async def test_a_post_is_tried_again_as_the_answer_says_and_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    pauses: list[float] = []

    async def note(pause_s: float) -> None:
        pauses.append(pause_s)

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        match len(keys):
            case 1:
                return httpx.Response(429, headers={"Retry-After": "7"})
            case 2:
                raise httpx.ConnectError("nobody is there")
            case 3:
                return httpx.Response(503, headers={"Retry-After": "3"})
        return httpx.Response(202, json={"id": "n1", "seq": 9})

    monkeypatch.setattr("ops.demo.backend.asyncio.sleep", note)
    posting = answering(answer)
    assert await posting.notify({}) == "n1"
    assert pauses == [7, 0.5, 3]
    assert len(set(keys)) == 1
    assert await posting.say("shop:order:1", "order.updated", {}) == 9
    assert len(keys) == 5
    assert len(set(keys)) == 2


async def test_what_is_refused_is_not_tried_again() -> None:
    with pytest.raises(DemoError, match="POST /v1/notifications was answered 422: too long"):
        await answering(lambda _: httpx.Response(422, text="too long")).notify({})


def posted(name: str = "n1", *devices: str, due: float = 0.0, collapse_key: str | None = None) -> Posted:
    return Posted((NOTIFICATION, name), "shop", frozenset(devices), 0, due, scheduled=False, collapse_key=collapse_key)


def arrival(name: str = "n1", device: str = "phone", at: float = 0.0) -> Arrival:
    return Arrival((NOTIFICATION, name), device, at, Line("shop", "high", device, "It is there"))


class Shown:
    def __init__(self) -> None:
        self.times: list[float | None] = []

    def __call__(self, _: Line, took_ms: float | None) -> None:
        self.times.append(took_ms)


def test_what_arrives_before_its_answer_is_booked_with_it() -> None:
    shown = Shown()
    ledger = Ledger(shown)
    with ledger.posting():
        ledger.arrived(arrival(at=1.5))
        assert shown.times == []
        ledger.accepted(posted("n1", "phone", "laptop", due=1.0))
        assert shown.times == [500.0]
    assert ledger.missing() == [((NOTIFICATION, "n1"), "laptop")]
    ledger.arrived(arrival(device="laptop"))
    assert not ledger.missing()
    assert not ledger.faults
    ledger.arrived(arrival(device="laptop"))
    assert "got twice" in ledger.faults[0]


def test_what_somebody_else_has_posted_is_shown_and_not_counted() -> None:
    shown = Shown()
    ledger = Ledger(shown)
    ledger.arrived(arrival())
    with ledger.posting():
        ledger.arrived(arrival("n2"))
    assert shown.times == [None, None]
    assert not ledger.domains


def test_a_newer_one_of_its_collapse_key_stands_for_an_older_one() -> None:
    ledger = Ledger(Shown())
    for nth, name in enumerate(("n1", "n2", "n3")):
        ledger.accepted(posted(name, "phone", due=nth, collapse_key="likes"))
    ledger.arrived(arrival("n2"))
    assert ledger.missing() == [((NOTIFICATION, "n3"), "phone")]


def test_a_line_fits_the_terminal_and_its_columns_stay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    screen = Screen()
    screen.title()
    screen.show(Line("shop", "critical", "Olena, phone", "x" * 500), 7.4)
    screen.show(Line.of_event("tasks:board:1", {"event": "card.moved", "data": {"card": 3}}), None)
    title, line, event = capsys.readouterr().out.splitlines()
    assert len(line) < 110
    assert line.endswith("x…")
    assert "7 ms" in line
    for name, first, second in (("urgency", "critical", "room"), ("what", "xxx", "card.moved  card=3")):
        assert title.index(name) == line.index(first) == event.index(second)


def test_what_does_not_arrive_is_said_and_ends_with_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(_target: Target, _options: Options, ledger: Ledger, _stopping: asyncio.Event) -> None:
        ledger.accepted(posted("n1", "phone"))

    monkeypatch.setattr(session, "play", play)
    monkeypatch.setattr(session, "_stack", lambda _: nothing_to_stop())
    assert session.play_all(Options()) == 1
    assert "MISSING: n1 at phone" in capsys.readouterr().out


@contextmanager
def nothing_to_stop() -> Iterator[Target]:
    yield Target("", {}, ())


async def test_a_device_that_was_cut_off_comes_back_to_its_rooms(
    settings: Settings, backend: httpx.AsyncClient
) -> None:
    room, posting, ledger = "shop:order:42", Backend(backend, "run"), Ledger(Shown())
    async with running_node(settings) as node:
        device = Device(Owner(OLENA, "phone", ("shop",)), node.url, posting, ledger, random.Random(1))  # noqa: S311  # to be repeated
        await device.connect()
        assert await device.follow(room)
        assert not await device.follow("blog:post:1")
        await device._client.disconnect()
        seq = await posting.say(room, "order.updated", {"state": "paid"})
        ledger.accepted(replace(posted("", "Olena, phone"), key=event_key(room, seq)))
        await eventually(lambda: not ledger.missing())
        assert not ledger.faults
        device._follows(room, 7, {"from": 9, "to": 9})
        assert ledger.faults == [f"Olena, phone: {room} went from 7 to 9"]
        await device.close()


def test_an_unknown_domain_is_refused() -> None:
    result = CliRunner().invoke(app, ["demo", "--domains", "shop,zoo"], env={"COLUMNS": "500"})
    assert result.exit_code == 2
    assert "zoo: there is only" in result.output

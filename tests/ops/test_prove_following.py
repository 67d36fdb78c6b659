"""The proof's rooms, presence and tokens: its checks with made-up violations, and a speaker with a small API."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from ops.prove import verify
from ops.prove.alarm import Alarm, ViolationError
from ops.prove.calls import Caller
from ops.prove.clients import Crowd
from ops.prove.device import Device
from ops.prove.following import Following, RoomCopy
from ops.prove.ledger import Ledger, Said
from ops.prove.speakers import Speaker
from ops.prove.target import KEPT
from ops.prove.truth import Room, Truth
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LOBBY = "proof:lobby"


def entry(seq: int, key: str | None = None) -> dict[str, Any]:
    return {
        "seq": seq,
        "event": "proof.said",
        "data": {"key": key or f"k{seq}", "text": ""},
        "at": "2026-01-01T12:00:00Z",
    }


def frame(first: int, last: int, room: str = LOBBY) -> dict[str, Any]:
    return {"room": room, "from": first, "to": last, "entries": [entry(seq) for seq in range(first, last + 1)]}


# --- a copy of a room ----------------------------------------------------------------------------------------


def test_a_copy_of_a_room_takes_what_follows_and_nothing_else() -> None:
    copy = RoomCopy(LOBBY)
    copy.apply(frame(1, 2))
    copy.apply(frame(3, 3))
    assert [each["seq"] for each in copy.entries] == [1, 2, 3]
    for wrong in (frame(3, 3), frame(5, 5), frame(4, 5) | {"entries": [entry(4)]}, frame(4, 4) | {"to": 5}):
        with pytest.raises(ViolationError, match="after 3"):
            copy.apply(wrong)


def test_a_copy_may_leave_out_only_what_a_room_need_not_keep() -> None:
    copy = RoomCopy(LOBBY)
    copy.apply(frame(1, 2))
    copy.begin(2, {"seq": 2, "reset": False})
    for answer in ({"seq": 3, "reset": False}, {"seq": 2, "reset": True}, {"seq": KEPT + 2, "reset": True}):
        with pytest.raises(ViolationError, match="joined proof:lobby from 2, and is told to go on from"):
            copy.begin(2, answer)
    copy.begin(2, {"seq": KEPT + 3, "reset": True})
    copy.apply(frame(KEPT + 4, KEPT + 4))
    assert [each["seq"] for each in copy.entries] == [KEPT + 4]


# --- a device ------------------------------------------------------------------------------------------------


@pytest.fixture
async def alarm() -> AsyncIterator[Alarm]:
    ringing = Alarm()
    yield ringing
    await ringing.end()


class Answering:
    """A connection whose questions are answered by a function."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], dict[str, Any] | None]) -> None:
        self.ready = self.over = False
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answer = answer

    def be_ready(self) -> None:
        self.ready = True

    def abort(self) -> None:
        self.over = True

    async def ask(
        self,
        event: str,
        payload: dict[str, Any],
        timeout_s: float,
        at_once: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any] | None:
        self.asked.append((event, payload))
        answer = self._answer(event, payload)
        if answer is not None and at_once is not None:
            at_once(answer)
        return answer


def answer_well(event: str, payload: dict[str, Any]) -> dict[str, Any]:
    if event == "join":
        return {"ok": True, "seq": payload["since"], "head": payload["since"], "reset": False}
    if event == "watch":
        return {"ok": True, "users": {user: {"status": "online"} for user in payload["users"]}}
    return {"ok": True}


def new_device(alarm: Alarm, following: Following) -> Device:
    target = SimpleNamespace(short_token=lambda user, ttl_s: f"{user} for {ttl_s} s")
    return Device(Crowd(target, alarm, [], 1), "ada", following, narrow=False)  # type: ignore[arg-type]


WELCOME = {"seq": 0, "reset": False, "user": "ada", "counts": {}}


async def test_a_device_joins_watches_and_goes_away_after_each_welcome(alarm: Alarm) -> None:
    following = Following([LOBBY], ["bob"], away=True)
    device = new_device(alarm, following)
    for welcome, since in (0, 0), (1, 2):
        connection: Any = Answering(answer_well)
        device.event(connection, "ready", WELCOME)
        await eventually(partial(following.is_settled, connection))
        assert connection.asked == [
            ("join", {"room": LOBBY, "since": since}),
            ("watch", {"users": ["bob"]}),
            ("status", {"status": "away"}),
        ]
        assert following.statuses == {"bob": "online"}
        device.event(connection, "room", frame(2 * welcome + 1, 2 * welcome + 2))
        device.event(connection, "presence", {"user": "bob", "status": "offline", "last_seen_at": None})
        assert following.statuses == {"bob": "offline"}


async def test_a_device_asks_again_what_was_refused_for_now(alarm: Alarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.prove.following._AGAIN_S", 0)
    refusals = [{"ok": False, "error": {"code": code}} for code in ("unavailable", "rate_limited")]
    connection: Any = Answering(lambda event, payload: refusals.pop() if refusals else answer_well(event, payload))
    following = Following([LOBBY], [], away=False)
    new_device(alarm, following).event(connection, "ready", WELCOME)
    await eventually(partial(following.is_settled, connection))
    assert [event for event, _ in connection.asked] == ["join", "join", "join"]


async def test_a_device_that_was_taken_out_joins_again(alarm: Alarm) -> None:
    following = Following([LOBBY], [], away=False)
    device = new_device(alarm, following)
    connection: Any = Answering(answer_well)
    device.event(connection, "ready", WELCOME)
    await eventually(partial(following.is_settled, connection))
    connection._answer = lambda _event, _payload: {"ok": True, "seq": 700, "head": 700, "reset": True}
    device.event(connection, "error", {"code": "room_reset", "room": LOBBY, "event": "join"})
    await eventually(lambda: following.rooms[LOBBY].seq == 700)


async def test_a_device_exchanges_its_token_in_time(alarm: Alarm) -> None:
    device = new_device(alarm, Following([], [], away=False))
    connection: Any = Answering(answer_well)
    device.event(connection, "expiring", {"expires_at": "2026-01-01T12:00:00Z"})
    await eventually(lambda: device._crowd.refreshes)
    ((event, payload),) = connection.asked
    assert event == "refresh"
    assert payload["token"].startswith("ada for ")


@pytest.mark.parametrize(
    ("answer", "events", "said"),
    [
        (answer_well, [("room", frame(1, 1))], "got 'room' before `ready`"),
        (answer_well, [("ready", WELCOME), ("room", frame(1, 1, "proof:attic"))], "has not joined"),
        (answer_well, [("ready", WELCOME), ("room", frame(2, 2))], "after 0"),
        (answer_well, [("ready", WELCOME), ("presence", {"user": "eve", "status": "online"})], "does not watch"),
        (answer_well, [("error", {"code": "token_revoked"})], "was told of an error"),
        (
            lambda *_: {"ok": False, "error": {"code": "not_granted"}},
            [("ready", WELCOME)],
            "a device of ada that holds 0: join .* was answered",
        ),
        (
            lambda *_: {"ok": False, "error": {"code": "wrong_user"}},
            [("expiring", {"expires_at": "2026-01-01T12:00:00Z"})],
            "a new token was answered",
        ),
    ],
)
async def test_a_device_rings_the_alarm_at_once(
    alarm: Alarm, answer: Callable[[str, dict[str, Any]], dict[str, Any]], events: list[Any], said: str
) -> None:
    device = new_device(alarm, Following([LOBBY], ["bob"], away=False))
    connection: Any = Answering(answer)
    for name, payload in events:
        device.event(connection, name, payload)
    with pytest.raises(ViolationError, match=said):
        await alarm.guard(asyncio.Event().wait())  # type: ignore[arg-type]


def test_a_user_is_online_where_any_device_is_and_offline_where_all_are_gone() -> None:
    crowd = Crowd(SimpleNamespace(), SimpleNamespace(), [], 1)  # type: ignore[arg-type]
    for user, aways in {"ada": [True, False], "bob": [True, True], "cy": [False]}.items():
        crowd.devices += [Device(crowd, user, Following([], [], away=away), narrow=False) for away in aways]
    assert crowd.statuses() == {"ada": "online", "bob": "away", "cy": "online"}
    crowd.devices[1].go()
    crowd.devices[4].go()
    assert crowd.statuses() == {"ada": "away", "bob": "away", "cy": "offline"}
    crowd.devices[4].come_back()
    assert crowd.statuses()["cy"] == "online"


# --- what was said -------------------------------------------------------------------------------------------


def kept() -> tuple[Ledger, Truth]:
    """Three events of two speakers in a room."""
    ledger = Ledger()
    for seq, (speaker, nth) in enumerate([(0, 1), (1, 1), (0, 2)], 1):
        ledger.say(Said(f"k{seq}", LOBBY, speaker, nth), seq)
    return ledger, Truth(rooms={LOBBY: Room(3, [entry(1), entry(2), entry(3)], ["k1", "k2", "k3"])})


def lose(ledger: Ledger, truth: Truth) -> None:
    truth.rooms[LOBBY] = Room(2, [entry(1), entry(2)], ["k1", "k2"])


def invent(ledger: Ledger, truth: Truth) -> None:
    truth.rooms[LOBBY] = Room(4, [*truth.rooms[LOBBY].entries, entry(4)], [*truth.rooms[LOBBY].keys, "k4"])


def exchange(ledger: Ledger, truth: Truth) -> None:
    truth.rooms[LOBBY].keys[0] = "k9"


def leave_a_gap(ledger: Ledger, truth: Truth) -> None:
    del truth.rooms[LOBBY].entries[1]


def remove_too_much(ledger: Ledger, truth: Truth) -> None:
    del truth.rooms[LOBBY].entries[0]


def swap(ledger: Ledger, truth: Truth) -> None:
    first, third = ledger.said[LOBBY, 1], ledger.said[LOBBY, 3]
    ledger.said |= {(LOBBY, 1): third, (LOBBY, 3): first}
    truth.rooms[LOBBY].keys = ["k3", "k2", "k1"]


def never_begin_the_room(ledger: Ledger, truth: Truth) -> None:
    del truth.rooms[LOBBY]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lose, "1 said, and not there: k3 as 3 of proof:lobby"),
        (invent, "1 there, and said by nobody: k4 as 4"),
        (exchange, "1 said, and not there: k1 as 1"),
        (leave_a_gap, "whose last number is 3, has the numbers 1 to 1, 3 to 3"),
        (remove_too_much, "whose last number is 3, has the numbers 2 to 3"),
        (swap, "what speaker 0 said as 1 under 3, after its 2"),
        (never_begin_the_room, "3 said, and not there"),
    ],
)
def test_a_broken_promise_is_seen_and_named(broken: Callable[[Ledger, Truth], None], said: str) -> None:
    ledger, truth = kept()
    verify.what_was_said_is_in_its_room_once_and_in_order(ledger, truth)
    broken(ledger, truth)
    with pytest.raises(ViolationError, match=said):
        verify.what_was_said_is_in_its_room_once_and_in_order(ledger, truth)


def test_a_room_need_not_keep_what_is_older() -> None:
    ledger, _ = kept()
    for seq in range(4, KEPT + 4):
        ledger.say(Said(f"k{seq}", LOBBY, 1, seq), seq)
    seqs = range(4, KEPT + 4)
    room = Room(KEPT + 3, [entry(seq) for seq in seqs], [f"k{seq}" for seq in seqs])
    verify.what_was_said_is_in_its_room_once_and_in_order(ledger, Truth(rooms={LOBBY: room}))


def test_a_copy_must_be_what_was_said_and_what_is_kept() -> None:
    ledger, truth = kept()
    following = Following([LOBBY], [], away=False)
    following.rooms[LOBBY].apply(frame(1, 3))
    device: Any = SimpleNamespace(user="ada", following=following)
    verify.room_copies_equal([device], ledger, truth)
    truth.rooms[LOBBY].entries[1] = entry(2) | {"event": "another"}
    with pytest.raises(ViolationError, match="ada has a copy of proof:lobby that differs in 2"):
        verify.room_copies_equal([device], ledger, truth)
    truth.rooms[LOBBY] = Room(3, [entry(3)], ["k3"])
    verify.room_copies_equal([device], ledger, truth)
    following.rooms[LOBBY].entries[0] = entry(1, "k9")
    with pytest.raises(ViolationError, match="differs in 1"):
        verify.room_copies_equal([device], ledger, truth)


def test_an_event_with_two_numbers_and_a_number_with_two_events_are_seen() -> None:
    ledger, _ = kept()
    said = ledger.said[LOBBY, 1]
    ledger.say(said, 1)
    with pytest.raises(ViolationError, match="k1 was answered with 1, and later with 7"):
        ledger.say(said, 7)
    with pytest.raises(ViolationError, match="k1 and k7 were both answered with 1 of proof:lobby"):
        ledger.say(Said("k7", LOBBY, 0, 7), 1)


async def test_a_speaker_says_one_thing_until_it_is_answered_and_then_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.prove.speakers._AGAIN", 0)
    keys: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            return web.json_response({}, status=503)
        return web.json_response({"room": LOBBY, "seq": len(set(keys))}, status=202)

    api = web.Application()
    api.router.add_post("/v1/rooms/{room}/events", answer)
    runner = web.AppRunner(api)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    ledger = Ledger()
    try:
        async with aiohttp.ClientSession() as http:
            caller = Caller(http, f"http://127.0.0.1:{runner.addresses[0][1]}", random.Random(1))  # noqa: S311
            speaker = Speaker(3, caller, ledger, [LOBBY], 7)
            await speaker.speak({})
            await speaker.speak({})
    finally:
        await runner.cleanup()
    assert keys == ["said-7-3-1", "said-7-3-1", "said-7-3-2"]
    assert {place: said.nth for place, said in ledger.said.items()} == {(LOBBY, 1): 1, (LOBBY, 2): 2}
    assert ledger.retries == 1

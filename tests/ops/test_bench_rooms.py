"""The benchmark's rooms: their books with made-up arrivals, both kinds of wire, and what is said of two stacks."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import socketio
from aiohttp import web

from ops.bench import broadcasts, rooms, streams
from ops.bench.attendance import Attendance, Said
from ops.bench.endpoint import ROOMS, Broadcasting, Endpoint, StackError, Wire
from ops.bench.facts import Facts, Measure, medians
from ops.bench.lab import Lab
from ops.bench.report import exit_status, table
from ops.bench.rooms import PACES, Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_MEASURES = (
    Measure("frames_per_s", "frames per s", 100, at_least=True, of_peer=1.5),
    Measure("cpu_us", "CPU, µs", of_peer=1),
    Measure("p99_ms", "p99, ms"),
)
_OURS = Facts("rooms-paced", 1, _MEASURES, {"frames_per_s": 120.0, "cpu_us": 30.0, "p99_ms": 4.0}, {}, {"lost": 0})
_NODES = replace(_OURS, label="node", values={"frames_per_s": 60.0, "cpu_us": 10.0, "p99_ms": None})
_FAST = Pace("rooms-flood", 6, PACES[-1].measures, posters=2)


def _frame(first: int, last: int) -> Said:
    return Said(tuple(range(first - 1, last)), first, last)


def test_an_event_is_everywhere_when_every_member_has_it() -> None:
    books, everywhere = Attendance(2, 3), []
    books.on_everywhere = everywhere.append
    books.sent(0, 10.0)
    assert books.waiting == 3
    for member, at in ((2, 10.5), (0, 10.25)):
        books.frame(member, Said((0,)), at)
    assert (books.waiting, everywhere) == (1, [])
    books.frame(1, Said((0,)), 11.0)
    assert (books.waiting, everywhere, books.last_arrival) == (0, [0], 11.0)
    assert books.latencies([0, 1]) == [0.25, 0.5, 1.0]
    assert (books.frames, books.arrived_count, books.duplicates, books.order_violations) == (3, 3, 0, 0)


@pytest.mark.parametrize(
    ("frames", "violations"),
    [
        ([_frame(6, 6), _frame(7, 9), _frame(10, 10)], 0),
        ([_frame(7, 7)], 1),
        ([_frame(6, 6), _frame(8, 8), _frame(7, 7)], 2),
        ([_frame(6, 7), _frame(7, 8)], 1),
        ([Said((0, 1), 6, 7, whole=False)], 1),
    ],
)
def test_frames_of_a_room_follow_each_other_at_every_member(frames: list[Said], violations: int) -> None:
    books = Attendance(10, 2)
    books.joined(0, 5)
    books.joined(1, 5)
    for said in frames:
        books.frame(1, said, 1.0)
    assert books.order_violations == violations
    books.frame(0, _frame(6, 6), 1.0)  # whatever the other one got
    assert books.order_violations == violations


def test_an_event_that_comes_again_is_a_duplicate_and_so_is_one_that_nobody_sent() -> None:
    books = Attendance(2, 2)
    for number in (1, 1, 2, -1):
        books.frame(0, Said((number,)), 1.0)
    assert (books.duplicates, books.arrived_count) == (3, 1)


def test_an_event_that_was_refused_is_not_lost() -> None:
    books = Attendance(3, 2)
    books.sent(0, 1.0)
    books.sent(1, 1.0)
    books.refused(1)
    assert (books.waiting, books.refused_count) == (2, 1)


def _packet(payload: dict[str, Any]) -> bytes:
    return b"42" + orjson.dumps(["room", payload])


def test_the_packets_of_both_stacks_are_read() -> None:
    entries = [{"seq": seq, "event": "e", "data": {"number": seq + 10}, "at": "now"} for seq in (3, 4)]
    whole = {"room": "bench:r", "from": 3, "to": 4, "entries": entries}
    assert Said.in_packet(_packet(whole)) == Said((13, 14), 3, 4)
    for broken in ({"from": 2}, {"to": 5}, {"entries": entries[::-1]}):
        assert not Said.in_packet(_packet({**whole, **broken})).whole
    assert Said.in_packet(_packet({"room": "r", "event": "e", "data": {"number": 7}})) == Said((7,))


def test_scale_leaves_every_poster_an_event() -> None:
    assert [pace.scaled(0.001).events for pace in PACES] == [4, 1, 4]
    assert [pace.scaled(0.5).events for pace in PACES] == [40, 30, 30]


def test_what_is_put_to_both_stands_side_by_side_with_its_targets() -> None:
    said = table([], [_OURS, _NODES])
    assert "rooms-paced                                                bellhop        node    ratio" in said
    assert "  frames per s                                                 120       60.00    2.00x" in said
    assert "  p99, ms                                                     4.00           -        -" in said
    assert "met     rooms-paced: frames per s at least 100 (120)" in said
    assert "met     rooms-paced: frames per s at least 1.5 times Node's (2.00)" in said
    assert "missed  rooms-paced: CPU, µs at most 1 times Node's (3.00)" in said
    alone = table([], [_OURS])
    assert "-       rooms-paced: CPU, µs at most 1 times Node's (-)" in alone
    assert "Node's (2.00)" not in alone


def test_the_peers_faults_are_said_and_are_not_ours() -> None:
    lossy = replace(_NODES, faults={"lost": 7})
    assert exit_status([], [_OURS, lossy]) == 0
    assert exit_status([], [replace(_OURS, faults={"lost": 1}), _NODES]) == 1
    said = table([], [_OURS, lossy])
    assert "met     nothing lost" in said
    assert "node, rooms-paced, run 1: 7 lost" in said


def test_each_stack_has_medians_of_its_own() -> None:
    runs = [replace(_OURS, values={**_OURS.values, "p99_ms": value}) for value in (1.0, 9.0, 2.0)]
    ours, nodes = medians([*runs, _NODES])
    assert (ours.label, ours.values["p99_ms"]) == ("bellhop", 2.0)
    assert (nodes.label, nodes.as_json()["label"], nodes.values) == ("node", "node", _NODES.values)


@asynccontextmanager
async def _plain_rooms(treated: dict[int, str]) -> AsyncIterator[Endpoint]:
    """A Socket.IO server with rooms that emits what is posted, except where `treated` says otherwise."""
    server, application = socketio.AsyncServer(async_mode="aiohttp"), web.Application()
    server.attach(application)

    @server.event
    async def connect(sid: str, _environ: Any, auth: dict[str, str]) -> None:
        await server.save_session(sid, auth)

    @server.event
    async def join(sid: str, request: dict[str, str]) -> dict[str, bool]:
        granted = (await server.get_session(sid))["token"].startswith("room token of ")
        if granted:
            await server.enter_room(sid, request["room"])
        return {"ok": granted}

    async def post(request: web.Request) -> web.Response:
        body, room = await request.json(), request.match_info["room"]
        treatment = treated.get(body["data"]["number"], "")
        if treatment == "refuse":
            return web.Response(status=503)
        for _ in range({"lose": 0, "double": 2}.get(treatment, 1)):
            await server.emit("room", {"room": room, **body}, to=room)
        return web.json_response({}, status=202)

    application.router.add_post("/rooms/{room}/events", post)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    try:
        yield Endpoint(
            label="plain",
            wire=Wire.PLAIN,
            single_url="",
            bulk_url="",
            socket_urls=(url,),
            headers={},
            token_of=lambda user: f"token of {user}",
            recipient=lambda user: {"user": user},
            pids=lambda: {"socket": os.getpid()},
            broadcasting=Broadcasting(
                url=lambda room: f"{url}/rooms/{room}/events", token_of=lambda user: f"room token of {user}"
            ),
        )
    finally:
        await server.shutdown()
        await runner.cleanup()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "SETTLE_S", 0.05)
    monkeypatch.setattr(rooms, "AFTERWARDS_S", 0.05)
    monkeypatch.setattr(streams, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(broadcasts, "_PATIENCE_S", 0.2)


@pytest.mark.parametrize("pace", [_FAST, replace(_FAST, rate=100.0)], ids=["closed", "open"])
async def test_a_plain_room_is_measured(pace: Pace, hurried: None) -> None:
    async with _plain_rooms({}) as endpoint:
        facts = await rooms.measure(endpoint, pace, members=3, prefix="u")
    assert (facts.label, facts.found()) == ("plain", {})
    assert facts.about["statuses"] == {"202": 16}  # the warm-up's ten, too
    assert (facts.about["deliveries"], facts.about["frames"], facts.values["events_per_frame"]) == (18, 18, 1.0)
    assert facts.values["p50_ms"] <= facts.values["p99_ms"]  # type: ignore[operator]
    assert facts.values["frames_per_s"] == facts.values["deliveries_per_s"]


async def test_what_a_room_doubles_or_refuses_is_seen(hurried: None) -> None:
    async with _plain_rooms({11: "double", 12: "refuse"}) as endpoint:
        facts = await rooms.measure(endpoint, _FAST, members=3, prefix="u")
    assert facts.found() == {"duplicated": 3, "refused": 1}
    assert facts.about["statuses"] == {"202": 15, "503": 1}


async def test_posters_end_where_an_event_does_not_reach_everybody(hurried: None) -> None:
    async with _plain_rooms({11: "lose"}) as endpoint:
        facts = await rooms.measure(endpoint, replace(_FAST, posters=1), members=3, prefix="u")
    assert facts.found() == {"lost": 3}
    assert facts.about["statuses"] == {"202": 12}


async def test_a_stack_that_lets_nobody_in_is_said(hurried: None) -> None:
    async with _plain_rooms({}) as endpoint:
        stranger = Broadcasting(url=str, token_of=endpoint.token_of)
        with pytest.raises(StackError, match=f"let nobody into {ROOMS}"):
            await rooms.measure(replace(endpoint, broadcasting=stranger), _FAST, members=2, prefix="u")
        with pytest.raises(StackError, match="has no rooms"):
            await rooms.measure(replace(endpoint, broadcasting=None), _FAST, members=2, prefix="u")


class _Named(Lab):
    """Has two stacks that are only names."""

    @contextmanager
    def stack(self, nodes: int = 1) -> Iterator[Any]:
        assert nodes == 1
        yield self._endpoint("bellhop")

    @contextmanager
    def peer(self) -> Iterator[Any]:
        yield self._endpoint("node")

    def warm_up(self, endpoint: Endpoint, users: int | None = None) -> None:
        pass

    @staticmethod
    def _endpoint(label: str) -> Endpoint:
        return Endpoint(label, Wire.PLAIN, "", "", (), {}, str, lambda _: {}, dict)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Whose measurements fail; nothing is really measured."""
    labels: set[str] = set()

    async def measured(endpoint: Endpoint, pace: Pace, *, members: int, prefix: str) -> Facts:
        assert (members, prefix[:6]) == (10, "bench-")
        if endpoint.label in labels:
            raise StackError(endpoint.label)
        return replace(_OURS, scenario=pace.name, label=endpoint.label)

    monkeypatch.setattr(rooms, "measure", measured)
    monkeypatch.setattr(rooms, "measure_hot_room", lambda _lab, _ours: replace(_OURS, scenario="rooms-hot"))
    return labels


def _twice(directory: Path) -> list[tuple[str, str, int]]:
    lab = _Named(directory, users=1, repeat=2, scale=0.001, began=lambda _: None)
    return [(facts.scenario, facts.label, facts.run) for facts in rooms.run(lab)]


def test_the_stacks_take_turns_in_alternating_order(failing: set[str], tmp_path: Path) -> None:
    *compared, first, second = _twice(tmp_path)
    assert compared == [
        (pace.name, label, run)
        for pace in PACES
        for run, labels in ((1, ("bellhop", "node")), (2, ("node", "bellhop")))
        for label in labels
    ]
    assert (first, second) == (("rooms-hot", "bellhop", 1), ("rooms-hot", "bellhop", 2))


def test_a_peer_that_fails_ends_its_part_only(
    failing: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.add("node")
    names = [pace.name for pace in PACES] + ["rooms-hot"]
    assert _twice(tmp_path) == [(name, "bellhop", run) for name in names for run in (1, 2)]
    assert capsys.readouterr().err.count("going on without the Node peer") == 1


def test_ours_that_fails_ends_the_scenario(failing: set[str], tmp_path: Path) -> None:
    failing.add("bellhop")
    with pytest.raises(StackError, match="bellhop"):
        _twice(tmp_path)


def test_where_the_peer_cannot_be_had_ours_is_measured_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    options: dict[str, Any] = {"users": 1, "repeat": 1, "scale": 1.0, "began": lambda _: None}
    for packages, complaint in ((tmp_path / "packages", "without the Node peer, then"), (None, "")):
        with Lab(tmp_path, packages=packages, **options).peer() as peer:
            assert peer is None
        assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

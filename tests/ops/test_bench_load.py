"""The benchmark's load generator against a small server, and what it fills tables with."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import socketio
from aiohttp import web

from ops.bench import load, open_files, streams
from ops.bench.endpoint import Backstage, Endpoint, StackError, Wire
from ops.bench.fill import Depth, filler
from ops.bench.lab import backstage_of
from ops.bench.machine import header
from ops.bench.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def backstage(database_url: str, redis_url: str) -> Backstage:
    return Backstage("http://127.0.0.1", database_url, redis_url, "default")


def _rows(backstage: Backstage, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(backstage.database_url) as connection:
        return connection.execute(statement).fetchall()


def test_a_filled_inbox_is_what_a_count_finds(backstage: Backstage) -> None:
    with filler(backstage) as tables:
        tables.inbox("deep", Depth(30, archived=5, read=20, seen=25))
        tables.history(3, users=4, prefix="old", progress=lambda _: None)
        tables.tidy()
        assert tables.deliveries("old") == (12, 12, 12)
    counted = _rows(
        backstage,
        """
        SELECT i.last_seq = count(*) AND i.last_seq = max(d.seq) AND min(d.seq) = 1 AND count(n.id) = count(*)
               AND i.unread = count(*) FILTER (WHERE d.read_at IS NULL AND d.archived_at IS NULL)
               AND i.unseen = count(*) FILTER (WHERE d.seen_at IS NULL AND d.archived_at IS NULL), i.unread
        FROM inbox i JOIN delivery d ON d.inbox_id = i.id
        LEFT JOIN notification n ON n.id = d.notification_id AND n.domain = d.domain AND n.type = d.type
        GROUP BY i.id ORDER BY i.unread
        """,
    )
    assert counted == [(True, 0)] * 4 + [(True, 10)]


def test_a_backlog_waits_in_order_with_its_notifications(backstage: Backstage) -> None:
    with filler(backstage) as tables:
        tables.backlog(7, users=3, prefix="u", stream="s")
        assert (tables.low_left(), tables.any_low_left()) == (7, True)
        waiting = _rows(
            backstage,
            """
            SELECT n.data->>'number', n.audience->>'user' FROM outbox o JOIN notification n ON n.id = o.notification_id
            WHERE o.priority = 3 AND n.priority = 3 AND o.due_at <= now() AND n.domain = 'bench' ORDER BY o.position
            """,
        )
        assert waiting == [(str(number), f"u{number % 3}") for number in range(7)]
        assert tables.drop_low() == 7
        assert not tables.any_low_left()


def test_what_postgres_says_against_it_is_the_stacks_failure(backstage: Backstage) -> None:
    with filler(backstage) as tables:
        tables.inbox("twice", Depth(1))
    with pytest.raises(StackError, match="inbox_user"), filler(backstage) as tables:
        tables.inbox("twice", Depth(1))


def test_the_header_names_the_machine_and_the_versions(backstage: Backstage) -> None:
    line = header(backstage, {"scale": 1.0})
    assert (line["kind"], line["options"], line["machine"]["cores"]) == ("header", {"scale": 1.0}, os.cpu_count())
    assert all(line["machine"].values())
    assert line["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert int(line["versions"]["postgres"].partition(".")[0]) >= 16
    json.dumps(line)


def test_a_machine_that_cannot_hold_the_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(256, 512)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])

    def refuse_more_than_allowed(_: int, wanted: tuple[int, int]) -> None:
        if wanted[1] > 512:
            raise ValueError
        limits.append(wanted)

    monkeypatch.setattr(resource, "setrlimit", refuse_more_than_allowed)
    with pytest.raises(StackError, match="may open 512 files"):
        open_files.allow_sockets(10_000)
    limits[:] = [(256, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.append(wanted))
    open_files.allow_sockets(1_000)
    assert limits[-1] == (1_500, resource.RLIM_INFINITY)
    with pytest.raises(StackError, match="ports for outgoing connections"):
        open_files.allow_sockets(70_000)


@asynccontextmanager
async def _plain_server(treated: dict[int, str]) -> AsyncIterator[tuple[Endpoint, list[Any]]]:
    """A Socket.IO server that emits what is posted, except for the numbers in `treated`: `lose`, `double`, `refuse`."""
    server, called_back = socketio.AsyncServer(async_mode="aiohttp"), []
    application = web.Application()
    server.attach(application)

    @server.event
    async def connect(sid: str, _environ: Any, auth: dict[str, str]) -> None:
        if auth["token"] == "token of nobody0":
            raise socketio.exceptions.ConnectionRefusedError("nobody")
        await server.enter_room(sid, auth["token"].removeprefix("token of "))

    async def post(request: web.Request) -> web.Response:
        body = await request.json()
        for item in body.get("notifications", [body]):
            treatment = treated.get(item["data"]["number"], "")
            if treatment == "refuse":
                return web.Response(status=503)
            for _ in range({"lose": 0, "double": 2}.get(treatment, 1)):
                sid = next(iter(server.manager.get_participants("/", item["user"])))[0]
                await server.emit("notification", item, to=sid, callback=lambda *_: called_back.append(1))
        return web.json_response({}, status=202)

    application.router.add_post("/post", post)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    try:
        yield (
            Endpoint(
                label="plain",
                wire=Wire.PLAIN,
                single_url=f"{url}/post",
                bulk_url=f"{url}/post",
                socket_urls=(url,),
                headers={},
                token_of=lambda user: f"token of {user}",
                recipient=lambda user: {"user": user},
                pids=lambda: {"all": os.getpid()},
            ),
            called_back,
        )
    finally:
        await server.shutdown()
        await runner.cleanup()


async def test_a_plain_server_is_measured_and_its_callbacks_are_answered() -> None:
    async with _plain_server({}) as (endpoint, called_back):
        figures = await load.measure(endpoint, Scenario("single", 30), users=3, prefix="u")
    assert figures.faults() == {}
    assert (figures.n, figures.users, figures.statuses, figures.order_violations) == (30, 3, {"202": 30}, None)
    assert figures.p50_ms
    assert len(called_back) == 30


async def test_losses_doubles_and_refusals_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_PATIENCE_S", 0.2)
    async with _plain_server({1: "lose", 7: "double", 10: "refuse"}) as (endpoint, _):
        scenario = Scenario("bulk", 20, per_request=5, in_flight=2, rate=1_000)
        figures = await load.measure(endpoint, scenario, users=2, prefix="u")
    assert figures.faults() == {"lost": 1, "refused": 5, "duplicated": 1}
    assert figures.statuses == {"202": 3, "503": 1}


async def test_a_backlog_waits_beside_the_measured_stream() -> None:
    async with _plain_server({}) as (endpoint, _):
        figures = await load.measure(endpoint, Scenario("critical", 5, backlog=20), users=2, prefix="u")
    assert figures.backlog is not None
    assert (figures.backlog.n, figures.backlog.lost) == (20, 0)
    assert figures.faults() == {}


async def test_a_stack_that_is_known_from_outside_only_is_not_filled() -> None:
    async with _plain_server({}) as (endpoint, _):
        with pytest.raises(StackError, match="from outside only"):
            backstage_of(endpoint)


async def test_a_refused_socket_is_the_stacks_failure() -> None:
    async with _plain_server({}) as (endpoint, _):
        with pytest.raises(StackError, match="refused a socket"):
            await load.measure(endpoint, Scenario("single", 1), users=1, prefix="nobody")
    await asyncio.sleep(0)


async def test_a_stack_that_does_not_answer_is_said() -> None:
    async with _plain_server({}) as (endpoint, _):
        pass
    with pytest.raises(StackError, match="0 could connect"):
        await load.measure(endpoint, Scenario("single", 1), users=1, prefix="u")

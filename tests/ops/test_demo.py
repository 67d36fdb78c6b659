"""The examples: every story is sound and can be posted, and on a real stack what they publish arrives."""

from __future__ import annotations

import ast
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import TypeAdapter
from typer.testing import CliRunner

from models.contracts import NotificationIn, RoomEventIn
from models.fields import Name
from models.states import Priority
from models.tokens import mint_token
from ops.__main__ import app
from ops.demo import Options, session
from ops.demo.backend import Backend, DemoError
from ops.demo.cast import CAST, OLENA
from ops.demo.device import Device, Owner
from ops.demo.ledger import NOTIFICATION, Arrival, Ledger, Posted, event_key
from ops.demo.play import OWNERS, Target
from ops.demo.producers import PRODUCERS, steps_of
from ops.demo.screen import Line, Screen
from ops.demo.story import Notify, Say, Step
from tests.socket_server.conftest import eventually, running_node
from tests.stack import ROOT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from models.settings import Settings

DOMAINS = sorted(PRODUCERS)
USERS = {person.id for person in CAST}
SOME = 600


def noon() -> datetime:
    return datetime(2026, 1, 1, 12, tzinfo=UTC)


def steps(domain: str, how_many: int = SOME, seed: int = 1) -> list[Step]:
    return list(islice(steps_of(domain, seed, noon), how_many))


def events(domain: str) -> list[Say]:
    return [step for step in steps(domain) if isinstance(step, Say)]


def notifications(domain: str) -> list[dict[str, Any]]:
    return [step.body for step in steps(domain) if isinstance(step, Notify)]


def users_of(body: dict[str, Any]) -> list[str]:
    return list(body["to"].get("users") or [body["to"]["user"]])


# --- every producer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_step_can_be_posted_and_stays_in_its_domain(domain: str) -> None:
    name = TypeAdapter(Name)
    for step in steps(domain):
        assert 0 <= step.wait_s < 10
        if isinstance(step, Notify):
            body = NotificationIn.model_validate(step.body)
            assert body.type.split(".")[0] == domain
            assert body.type.count(".") == 2, "domain.entity.action"
            assert set(users_of(step.body)) <= USERS
            assert body.action_url
            assert len(json.dumps(body.data)) < 200
        else:
            RoomEventIn.model_validate({"event": step.event, "data": step.data})
            assert name.validate_python(step.room).startswith(f"{domain}:")


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_same_seed_tells_the_same_and_another_seed_something_else(domain: str) -> None:
    assert steps(domain) == steps(domain)
    assert steps(domain) != steps(domain, seed=2)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_producer_knows_none_of_the_others(domain: str) -> None:
    imported = {
        node.module
        for node in ast.walk(ast.parse((ROOT / f"ops/demo/{domain}.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ops")
    }
    assert imported <= {"ops.demo.cast", "ops.demo.story"}


def test_the_demo_uses_nothing_but_the_public_api() -> None:
    imported = {
        node.module.partition(".")[0]
        for path in (ROOT / "ops/demo").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert imported & {"api", "socket_server", "workers"} == set()


def test_together_they_use_what_there_is() -> None:
    bodies = [body for domain in DOMAINS for body in notifications(domain)]
    assert {body.get("priority", "normal") for body in bodies} == set(Priority)
    for field in ("collapse_key", "deliver_at", "expires_at", "actor", "body"):
        assert any(field in body for body in bodies), field
    assert any("user" in body["to"] for body in bodies)
    assert any(len(users_of(body)) > 1 for body in bodies)
    assert any("Ѐ" <= letter <= "ӿ" for body in bodies for letter in body["title"])
    assert {domain for owner in OWNERS for domain in owner.domains} == set(PRODUCERS), "somebody sees every room"


def test_together_they_make_about_ten_steps_a_second() -> None:
    rate = sum(SOME / sum(step.wait_s for step in steps(domain)) for domain in DOMAINS)
    assert rate == pytest.approx(10, rel=0.15)


# --- their stories -------------------------------------------------------------------------------------------


def test_an_order_is_paid_before_it_is_packed_and_shipped_before_it_is_delivered() -> None:
    after = {
        "placed": {"paid", "payment-failed"},
        "payment-failed": {"payment-failed", "paid", "cancelled"},
        "paid": {"packed"},
        "packed": {"shipped"},
        "shipped": {"delivered"},
        "cancelled": set(),
        "delivered": set(),
    }
    orders: dict[str, list[str]] = defaultdict(list)
    for event in events("shop"):
        orders[event.room].append(event.data["state"])
    assert {states[-1] for states in orders.values()} >= {"delivered", "cancelled"}
    for states in orders.values():
        assert states[0] == "placed"
        assert all(after_it in after[state] for state, after_it in pairwise(states))


def test_a_failed_payment_is_critical_and_a_sale_is_not() -> None:
    urgency = {body["type"]: body.get("priority") for body in notifications("shop")}
    assert urgency["shop.payment.failed"] == "critical"
    assert urgency["shop.sale.started"] == "low"


def test_a_card_leaves_only_the_column_that_it_is_in() -> None:
    columns: dict[int, str] = {}
    for event in events("tasks"):
        card = event.data["card"]
        if event.event == "card.created":
            columns[card] = event.data["column"]
        elif event.event == "card.moved":
            assert columns[card] == event.data["from"]
            columns[card] = event.data["to"]
    assert "done" in columns.values()


def test_a_comment_is_published_only_after_it_has_waited_and_the_queue_is_counted_right() -> None:
    waiting: set[int] = set()
    published: set[str] = set()
    for event in events("blog"):
        comment = event.data.get("comment")
        match event.event:
            case "post.published":
                published.add(event.room)
            case "comment.waiting":
                waiting.add(comment)
            case "comment.approved" | "comment.rejected":
                waiting.remove(comment)
            case _:
                assert comment not in waiting
                assert event.room in published
        assert event.data.get("waiting", len(waiting)) == len(waiting)


def test_a_place_is_taken_only_while_it_is_free_and_nobody_is_reminded_of_what_is_cancelled() -> None:
    taken: set[tuple[str, int]] = set()
    for event in events("booking"):
        slot = (event.room, event.data["hour"])
        assert (slot in taken) == (event.event != "slot.taken")
        taken.symmetric_difference_update({slot} if event.event != "slot.begun" else set())
    over: set[int] = set()
    for body in notifications("booking"):
        if body["type"] == "booking.slot.near":
            assert body["data"]["booking"] not in over
            assert datetime.fromisoformat(body["deliver_at"]) > noon()
        elif body["type"] in {"booking.slot.returned", "booking.place.closed"}:
            over.add(body["data"]["booking"])
    assert over


def test_a_certificate_comes_after_all_lessons_and_a_passed_test() -> None:
    done: dict[str, list[Any]] = {}
    for event in events("learning"):
        student = event.data.get("student", "")
        match event.event:
            case "student.joined":
                done[student] = []
            case "lesson.done":
                done[student].append(event.data["lesson"])
            case "test.graded":
                done[student].append("passed" if event.data["grade"] >= 60 else "failed")
            case "certificate.issued":
                assert [each for each in done.pop(student) if each != "failed"] == [1, 2, 3, "passed"]


def test_likes_only_grow_and_share_the_collapse_key_of_their_post() -> None:
    likes: Counter[str] = Counter()
    for event in events("social"):
        if event.event == "likes.counted":
            likes[event.room] += 1
            assert event.data["likes"] == likes[event.room]
    for body in notifications("social"):
        if body["type"] == "social.post.liked":
            assert body["collapse_key"] == f"post:{body['data']['post']}:likes"
            assert body["priority"] == "low"


def test_no_seat_is_given_twice_and_the_doors_of_a_cancelled_event_stay_shut() -> None:
    left: dict[str, int] = {}
    over: set[str] = set()
    for event in events("events"):
        assert event.room not in over
        if event.event == "event.announced":
            left[event.room] = event.data["seats_left"]
        elif event.event == "seats.changed":
            assert abs(event.data["seats_left"] - left[event.room]) == 1
            left[event.room] = event.data["seats_left"]
        elif event.event in {"event.cancelled", "doors.opened"}:
            over.add(event.room)
    assert over


# --- posting, booking, printing ------------------------------------------------------------------------------


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


# --- on a real stack -----------------------------------------------------------------------------------------

OTHERS = [domain for domain in DOMAINS if domain != "social"]


def test_on_a_real_stack_everything_arrives_and_nothing_stays(tmp_path: Path) -> None:
    """One run starts a stack and tells of social until it is interrupted; another finds it and tells of the rest."""
    nobody_there = {"api_url": "http://127.0.0.1:1", "api_key": "bh_x", "socket_urls": []}
    (tmp_path / "dev.json").write_text(json.dumps(nobody_there))
    first = subprocess.Popen(
        [sys.executable, "-m", "ops", "demo", "--seconds", "0", "--domains", "social", "--pace", "4"],
        cwd=ROOT,
        env={**without_bellhop(), "BELLHOP_DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert first.stdout
        assert "does not answer" in first.stdout.readline()
        lines = iter(first.stdout.readline, "")
        assert any("social:post:" in line for line in lines), "nothing was published"
        (dev_json,) = tmp_path.glob("demo-*/bellhop/dev.json")
        dev = json.loads(dev_json.read_text())
        play_the_others(dev_json.parent, dev)
    finally:
        first.send_signal(signal.SIGTERM)
        rest, _ = first.communicate(timeout=60)
    assert first.returncode == 0, rest
    assert "Everything arrived, once and in order." in rest
    assert [pid for pid in dev["pids"].values() if Path(f"/proc/{pid}").exists()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["dev.json"]


def without_bellhop() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BELLHOP_")}


def play_the_others(data_dir: Path, dev: dict[str, Any]) -> None:
    asked = ["demo", "--seconds", "1.5", "--pace", "8", "--seed", "7", "--domains", ",".join(OTHERS)]
    result = CliRunner().invoke(app, asked, env={"BELLHOP_DATA_DIR": str(data_dir)})
    assert result.exit_code == 0, result.output
    assert dev["api_url"] in result.stdout
    assert "Everything arrived, once and in order." in result.stdout
    published = {
        row[0]: (int(row[1]), int(row[2])) for line in result.stdout.splitlines() if is_row(row := line.split())
    }
    assert set(published) == set(OTHERS)
    told: list[Step] = []
    for domain, (notified, said) in published.items():
        its = steps(domain, notified + said, seed=7)
        assert [isinstance(step, Notify) for step in its].count(True) == notified > 0
        assert said
        told += its
    least, most = expected_of(told)
    with httpx.Client(base_url=dev["api_url"]) as http:
        wait_until(lambda: least <= in_inboxes(http, dev) <= most)
        assert in_rooms(http, dev, told) == [(step.event, step.data) for step in by_room(told)]


def expected_of(told: list[Step]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """What must be in inboxes, and what may be: of a collapse key, whatever a newer one stands for may be gone."""
    least: Counter[tuple[str, str]] = Counter()
    most: Counter[tuple[str, str]] = Counter()
    newest: dict[tuple[str, str, str], tuple[str, str]] = {}
    for step in told:
        for user in users_of(step.body) if isinstance(step, Notify) else ():
            item = (step.body["title"], user)
            most[item] += 1
            if key := step.body.get("collapse_key"):
                newest[step.body["type"], key, user] = item
            else:
                least[item] += 1
    least.update(newest.values())
    return least, most


def is_row(words: list[str]) -> bool:
    return len(words) == 7 and words[0] in PRODUCERS


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait, as a run does not, for the reminders of those who are away."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def in_inboxes(http: httpx.Client, dev: dict[str, Any]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for user in USERS:
        token, _ = mint_token(dev["secret_key"], tenant=dev["tenant"], user=user, ttl_s=60)
        answer = http.get("/v1/inbox?status=all&limit=100", headers={"Authorization": f"Bearer {token}"}).json()
        assert answer["next_before"] is None
        found.update((item["title"], user) for item in answer["items"] if item["domain"] in OTHERS)
    return found


def by_room(told: list[Step]) -> list[Say]:
    said = [step for step in told if isinstance(step, Say)]
    return sorted(said, key=lambda step: step.room)  # of one room, in order


def in_rooms(http: httpx.Client, dev: dict[str, Any], told: list[Step]) -> list[tuple[str, Any]]:
    found = []
    for room in sorted({step.room for step in by_room(told)}):
        page = http.get(f"/v1/rooms/{room}/log", headers={"Authorization": f"Bearer {dev['api_key']}"}).json()
        found += [(entry["event"], entry["data"]) for entry in page["entries"]]
    return found

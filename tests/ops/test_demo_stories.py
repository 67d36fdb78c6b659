"""The examples' stories: every one is sound and can be posted."""

from __future__ import annotations

import ast
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

import pytest
from pydantic import TypeAdapter

from models.contracts import NotificationIn, RoomEventIn
from models.fields import Name
from models.states import Priority
from ops.demo.cast import CAST
from ops.demo.play import OWNERS
from ops.demo.producers import PRODUCERS, steps_of
from ops.demo.story import Notify, Say, Step
from tests.stack import ROOT

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

"""The proof: its checks with made-up violations, its parts against small servers, and a real run with real faults."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest
from aiohttp import web
from typer.testing import CliRunner

from models.states import FOLDED, ListStatus
from ops.__main__ import app
from ops.prove import Options, calls, session, verify
from ops.prove.alarm import Alarm, ViolationError
from ops.prove.backends import Poster
from ops.prove.calls import Caller
from ops.prove.clients import Crowd
from ops.prove.device import Device
from ops.prove.faults import Faults
from ops.prove.following import Following
from ops.prove.fresh import Fresh, copy_equals, counts_are_right, list_is_right
from ops.prove.leaks import Level, Measure, growth_mb, left_over
from ops.prove.ledger import BRIEF, GATHERED, WORDED, Acted, Cancelled, Ledger, Posted
from ops.prove.metrics import counters_in, mended_in
from ops.prove.plan import Kind, plan
from ops.prove.replica import Replica
from ops.prove.report import Figures, exit_status, table
from ops.prove.silent_proxy import SilentProxy
from ops.prove.truth import Change, Delivery, Event, Inbox, Notification, Suppression, Truth
from tests.stack import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


# --- the plan ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    kinds = list(Kind)
    assert plan(7, 90, kinds) == plan(7, 90, kinds)
    assert plan(7, 90, kinds) != plan(8, 90, kinds)


@pytest.mark.parametrize("seconds", [5, 20, 90, 600])
def test_nothing_happens_outside_the_time_and_only_what_was_asked_for(seconds: float) -> None:
    for seed in range(50):
        kinds = list(Kind)[seed % 8 :: 1 + seed % 3]
        faults = plan(seed, seconds, kinds)
        assert faults
        assert all(fault.at_s > 0 and fault.lasts_s >= 0 and fault.ends_s <= seconds for fault in faults)
        assert all(0 <= fault.draw < 1 for fault in faults)
        assert {fault.kind for fault in faults} <= set(kinds)


def test_every_kind_has_its_turn_and_sometimes_two_come_at_once() -> None:
    faults = plan(1, 90, list(Kind))
    assert {fault.kind for fault in faults} == set(Kind)
    together = [
        (first, second)
        for first, second in pairwise(faults)
        if second.at_s - first.at_s < 0.5 and first.kind is not second.kind
    ]
    assert together
    assert len(together) < len(faults) / 2


def test_whatever_can_be_planned_can_be_broken() -> None:
    assert set(Faults(SimpleNamespace(), SimpleNamespace(), print)._table) == set(Kind)  # type: ignore[arg-type]


# --- a local copy --------------------------------------------------------------------------------------------


def arrival(seq: int, **changes: Any) -> dict[str, Any]:
    item = {"seq": seq, "id": f"n{seq}", "seen_at": None, "read_at": None, "archived_at": None, **changes}
    return {"seq": seq, "kind": "arrival", "item": item}


def frame(first: int, last: int, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"from": first, "to": last, "entries": list(entries), "counts": {"unread": 0, "unseen": 0}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (frame(4, 4, arrival(4)), "a gap"),
        (frame(2, 2, arrival(2)), "again"),
        (frame(3, 4, arrival(4), arrival(3)), "holds the numbers"),
        (frame(3, 4, arrival(3), arrival(3)), "holds the numbers"),
        (frame(3, 3, arrival(4)), "holds the numbers"),
        (frame(3, 3, {"seq": 3, "kind": "change", "action": "eat", "seqs": [1], "at": "now"}), "does not know"),
    ],
)
def test_a_copy_takes_only_what_follows(wrong: dict[str, Any], said: str) -> None:
    copy = Replica()
    copy.apply(frame(1, 2, arrival(1), arrival(2)))
    with pytest.raises(ViolationError, match=said):
        copy.apply(wrong)
    assert copy.seq == 2


def test_a_copy_that_differs_in_anything_from_a_fresh_read_is_seen() -> None:
    copy = Replica()
    copy.apply(frame(1, 2, arrival(1), arrival(2)))
    copy.apply(frame(3, 3, {"seq": 3, "kind": "change", "action": "read", "seqs": [1], "at": "noon"}))
    counts = {"unread": 1, "unseen": 1}

    def fresh(**changes: Any) -> Fresh:
        read = Fresh()
        first = arrival(1, seen_at="noon", read_at="noon", **changes)["item"]
        assert read.add({"items": [arrival(2)["item"]], "counts": counts, "seq": 3, "next_before": 2}) == 2
        assert read.add({"items": [first], "counts": counts, "seq": 3, "next_before": None}) is None
        return read

    copy_equals("ada", copy, counts, fresh())
    with pytest.raises(ViolationError, match=r"differs .* in 1: id 'n1' / 'other'"):
        copy_equals("ada", copy, counts, fresh(id="other"))
    with pytest.raises(ViolationError, match="was told last"):
        copy_equals("ada", copy, {"unread": 2, "unseen": 1}, fresh())
    behind = fresh()
    behind.seq = 4
    with pytest.raises(ViolationError, match="holds 3; its inbox is at 4"):
        copy_equals("ada", copy, counts, behind)
    less = fresh()
    less.items.pop()
    with pytest.raises(ViolationError, match="in 1: only the copy has it"):
        copy_equals("ada", copy, counts, less)


def test_other_lists_and_counts_must_say_what_the_whole_inbox_says() -> None:
    fresh = Fresh()
    read, unread, archived = (arrival(seq, domain="shop")["item"] for seq in (1, 2, 3))
    read |= {"seen_at": "noon", "read_at": "noon"}
    archived["archived_at"] = "noon"
    counts = {"unread": 1, "unseen": 1}
    fresh.add({"items": [archived, unread, read], "counts": counts, "seq": 4, "next_before": None})
    right = {"active": [unread, read], "unread": [unread], "unseen": [unread], "archived": [archived]}
    for status, items in right.items():
        list_is_right("ada", ListStatus(status), fresh, {"items": items}, 100)
        with pytest.raises(ViolationError, match=f"the {status} list of ada"):
            list_is_right("ada", ListStatus(status), fresh, {"items": items[1:]}, 100)
    list_is_right("ada", ListStatus.ALL, fresh, {"items": [archived]}, 1)
    with pytest.raises(ViolationError, match="the all list of ada"):
        list_is_right("ada", ListStatus.ALL, fresh, {"items": [archived]}, 2)
    counts_are_right("ada", fresh, {**counts, "domains": {"shop": counts}})
    with pytest.raises(ViolationError, match="the counts of ada"):
        counts_are_right("ada", fresh, {**counts, "domains": {}})


# --- what the database says ----------------------------------------------------------------------------------


def kept() -> tuple[Ledger, Truth]:
    """One to ada, which she has read, one to both, one that expired, one that did so later, two that were cancelled."""
    ledger = Ledger()
    posted = {
        "n1": Posted("k1", 0, 1, ("ada",), "high"),
        "n2": Posted("k2", 0, 2, ("ada", "bob"), "high"),
        "n3": Posted("k3", 0, 3, ("bob",), "low", expires_at=NOON),
        "n4": Posted("k4", 0, 4, ("bob",), "low", expires_at=NOON + 9 * SECOND),
        "n5": Posted("k5", 0, 5, ("bob",), "low"),
        "n6": Posted("k6", 0, 6, ("ada", "bob"), "low"),
    }
    for notification_id, each in posted.items():
        ledger.accept(each, notification_id)
    ledger.acted.append(Acted("ada", 3, "read"))
    ledger.cancel("n5", Cancelled(0, 1, 0))
    ledger.cancel("n6", Cancelled(2, 0, 0))
    return ledger, Truth(
        notifications={
            key: Notification(each.key, each.users, each.priority, each.deliver_at, each.expires_at)
            for key, each in posted.items()
        },
        deliveries=[
            Delivery("ada", 1, "n1", NOON, unread=False, unseen=False),
            Delivery("ada", 2, "n2", NOON, unread=True, unseen=True),
            Delivery("bob", 1, "n2", NOON, unread=True, unseen=True),
            Delivery("bob", 2, "n4", NOON, unread=False, unseen=False, deleted=True),
            Delivery("bob", 4, "n5", NOON, unread=False, unseen=False, deleted=True),
        ],
        changes=[Change("ada", 3, "read"), Change("bob", 3, "delete"), Change("bob", 5, "delete")],
        inboxes={"ada": Inbox("ada", 3, 1, 1), "bob": Inbox("bob", 5, 1, 1)},
        events=[
            Event("n3", "expired", NOON + SECOND),
            Event("n4", "withdrawn", NOON + 9 * SECOND),
            Event("n5", "cancelled", NOON + SECOND),
            Event("n6", "cancelled", NOON + SECOND),
        ],
    )


def test_kept_promises_pass() -> None:
    verify.everything(*kept())


def lose(ledger: Ledger, truth: Truth) -> None:
    del truth.deliveries[2]


def double(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries.append(replace(truth.deliveries[2], seq=2))


def deliver_to_a_stranger(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries.append(Delivery("eve", 1, "n1", NOON, unread=True, unseen=True))


def deliver_what_nobody_sent(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries.append(Delivery("bob", 2, "n9", NOON, unread=True, unseen=True))


def lose_a_row(ledger: Ledger, truth: Truth) -> None:
    del truth.notifications["n1"]


def invent_a_row(ledger: Ledger, truth: Truth) -> None:
    truth.notifications["n9"] = Notification("k9", ("ada",), "low")


def store_another_audience(ledger: Ledger, truth: Truth) -> None:
    truth.notifications["n1"] = replace(truth.notifications["n1"], users=("ada", "bob"))


def leave_something_waiting(ledger: Ledger, truth: Truth) -> None:
    truth.outbox = 1


def park(ledger: Ledger, truth: Truth) -> None:
    truth.parked["n1"] = "no reason"


def deliver_what_expired(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries.append(Delivery("bob", 2, "n3", NOON - SECOND, unread=True, unseen=True))


def keep_what_expired(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries[3] = replace(truth.deliveries[3], deleted=False)


def keep_what_was_recalled(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries[4] = replace(truth.deliveries[4], deleted=False)


def deliver_what_was_cancelled(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries.append(Delivery("ada", 4, "n6", NOON, unread=False, unseen=False, deleted=True))


def cancel_and_answer_nobody(ledger: Ledger, truth: Truth) -> None:
    truth.events.append(Event("n1", "cancelled", NOON))


def tell_other_numbers(ledger: Ledger, truth: Truth) -> None:
    ledger.cancelled["n5"] = Cancelled(0, 0, 0)


def mute_what_was_delivered(ledger: Ledger, truth: Truth) -> None:
    ledger.muting = frozenset({"bob"})


def suppress_what_was_delivered(ledger: Ledger, truth: Truth) -> None:
    truth.suppressions.append(Suppression("n2", "bob", verify.MUTES))


def suppress_for_no_reason(ledger: Ledger, truth: Truth) -> None:
    lose(ledger, truth)
    truth.suppressions.append(Suppression("n2", "bob", FOLDED))


def expire_twice(ledger: Ledger, truth: Truth) -> None:
    truth.events.append(truth.events[0])


def expire_what_never_does(ledger: Ledger, truth: Truth) -> None:
    truth.events.append(Event("n1", "expired", NOON))


def deliver_too_late(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries[3] = replace(truth.deliveries[3], delivered_at=NOON + 9 * SECOND)


def deliver_too_early(ledger: Ledger, truth: Truth) -> None:
    truth.notifications["n1"] = replace(truth.notifications["n1"], deliver_at=NOON + SECOND)


def expire_too_early(ledger: Ledger, truth: Truth) -> None:
    truth.events[0] = replace(truth.events[0], at=NOON - SECOND)


def leave_a_gap(ledger: Ledger, truth: Truth) -> None:
    truth.deliveries[2] = replace(truth.deliveries[2], seq=6)
    truth.inboxes["bob"] = replace(truth.inboxes["bob"], last_seq=6)


def number_twice(ledger: Ledger, truth: Truth) -> None:
    truth.changes.append(Change("bob", 1, "seen"))


def swap(ledger: Ledger, truth: Truth) -> None:
    first, second, *rest = truth.deliveries
    truth.deliveries = [replace(first, seq=2), replace(second, seq=1), *rest]


def miscount(ledger: Ledger, truth: Truth) -> None:
    truth.inboxes["ada"] = replace(truth.inboxes["ada"], unseen=2)


def forget_an_action(ledger: Ledger, truth: Truth) -> None:
    ledger.acted.append(Acted("bob", 1, "archive"))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lose, "notification n2 of k2: not delivered to bob"),
        (double, "more than once to bob"),
        (deliver_to_a_stranger, "delivered to eve, for whom it was not"),
        (deliver_what_nobody_sent, "1 delivered, and accepted from nobody: n9"),
        (lose_a_row, "1 accepted, and not in the database: n1"),
        (invent_a_row, "accepted from nobody: n9"),
        (store_another_audience, "otherwise than they were posted: n1"),
        (leave_something_waiting, "1 rows still wait"),
        (park, r"parked: n1 \(no reason\)"),
        (deliver_what_expired, "expired, and delivered all the same"),
        (mute_what_was_delivered, "n2 of k2: delivered to bob, who mute it"),
        (suppress_what_was_delivered, "n2 of k2: delivered to bob, and suppressed"),
        (suppress_for_no_reason, "n2 of k2: suppressed for bob because a newer one .* and not because of anything"),
        (keep_what_expired, "1 expired, and still there: n4 with bob"),
        (keep_what_was_recalled, "cancelling n5 .* reached 1, and was deleted by 0"),
        (deliver_what_was_cancelled, "n6 of k6: not delivered to bob, and cancelled for 2"),
        (cancel_and_answer_nobody, "cancelled, and not answered so, or the other way: n1"),
        (tell_other_numbers, "cancelling n5 .* it reached 1"),
        (expire_twice, "expired twice"),
        (expire_what_never_does, "expired, though it never does"),
        (deliver_too_late, "after it expired"),
        (deliver_too_early, "n1 was delivered at .*, before"),
        (expire_too_early, "n3 expired at .*, before"),
        (leave_a_gap, "inbox of bob, .* missing 1, doubled none"),
        (number_twice, "inbox of bob, .* doubled 1"),
        (swap, "ada has the high notification 2 of poster 0 under 1, and 1 of the same after it, under 2"),
        (miscount, "says 1 unread and 2 unseen; its deliveries are 1 and 1"),
        (forget_an_action, "archive of bob was confirmed as number 1, which is no change"),
    ],
)
def test_a_broken_promise_is_seen_and_named(broken: Callable[[Ledger, Truth], None], said: str) -> None:
    ledger, truth = kept()
    broken(ledger, truth)
    with pytest.raises(ViolationError, match=said):
        verify.everything(ledger, truth)


def test_what_is_muted_or_folded_needs_no_delivery() -> None:
    ledger, truth = kept()
    ledger.muting = frozenset({"eve"})
    for nth, (rule, collapse_key) in enumerate([(verify.MUTES, ""), (FOLDED, "k")]):
        posted = Posted(f"m{nth}", 1, 2 + 3 * nth, ("eve" if nth == 0 else "bob",), "low", collapse_key=collapse_key)
        ledger.accept(posted, f"m{nth}")
        truth.notifications[f"m{nth}"] = Notification(posted.key, posted.users, "low")
        truth.suppressions.append(Suppression(f"m{nth}", posted.users[0], rule))
    verify.everything(ledger, truth)


def test_books_that_do_not_balance_are_seen() -> None:
    _, truth = kept()
    verify.books_balance(truth)
    truth.deliveries = truth.deliveries[1:]
    with pytest.raises(ViolationError, match="6 accepted are not 3 dispatched"):
        verify.books_balance(truth)


def test_what_is_to_come_later_has_no_place_in_the_order() -> None:
    ledger, truth = kept()
    swap(ledger, truth)
    ledger.accepted["n1"] = replace(ledger.accepted["n1"], deliver_at=NOON)
    verify.order_was_kept(ledger, truth)


def test_a_key_with_two_answers_and_an_answer_to_two_keys_are_seen() -> None:
    ledger, _ = kept()
    first = ledger.accepted["n1"]
    ledger.accept(first, "n1")
    with pytest.raises(ViolationError, match="k1 was answered with n1, and later with n7"):
        ledger.accept(first, "n7")
    with pytest.raises(ViolationError, match="k1 and k7 were both answered with n1"):
        ledger.accept(replace(first, key="k7"), "n1")


def test_metrics_may_say_less_than_the_database_and_never_more() -> None:
    text = """# HELP bellhop_deliveries_total Deliveries written by workers
bellhop_deliveries_total{priority="high"} 2.0
bellhop_deliveries_total{priority="low"} 1.0
bellhop_deliveries_created{priority="low"} 1.7e+09
bellhop_notifications_accepted_total{priority="low"} 2.0
"""
    text += 'bellhop_repairs_total{node="a",reason="gap"} 2.0\nbellhop_repairs_total{node="a",reason="slow"} 1.0\n'
    assert mended_in(text) == {"repairs": Counter(gap=2, slow=1), "drops": Counter()}
    counted = counters_in(text)
    assert counted == {"accepted": 2.0, "dispatched": 0.0, "deliveries": 3.0, "expired": 0.0, "digests": 0.0}
    truth = kept()[1].counts()
    assert truth == {"accepted": 6, "dispatched": 4, "deliveries": 5, "expired": 1, "digests": 0}
    verify.metrics_are_within(counted, truth)
    with pytest.raises(ViolationError, match="count 6 deliveries; the database holds 5"):
        verify.metrics_are_within({**counted, "deliveries": 6.0}, truth)
    with pytest.raises(ViolationError, match="quiet round the metrics counted 2 accepted, and the database 6"):
        verify.deltas_are_equal(counted, truth)
    verify.deltas_are_equal(dict(truth), truth)


# --- what is left over ---------------------------------------------------------------------------------------


def measured(**changes: int) -> Measure:
    level = {"clients": 0, "others": 20, "postgres": 2, "redis": 3, "processes": 1, **changes}
    return Measure({"socket": Level(**level)}, {("socket", 7, 1.0): 100 * 2**20}, sessions=level["postgres"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clients": 1}, "socket has 1 connections of clients, and may have 0"),
        ({"others": 29}, "socket has 29 descriptors, and may have 28"),
        ({"postgres": 9}, "socket has 9 connections to Postgres, and may have 8"),
        ({"redis": 36}, "connections to Redis"),
        ({"processes": 2}, "socket has 2 processes, and may have 1"),
        ({"processes": 0}, "0 processes instead of 1"),
    ],
)
def test_what_clients_left_behind_is_named(changes: dict[str, int], said: str) -> None:
    assert left_over(measured(), measured(), pool_size=8) == []
    assert said in "; ".join(left_over(measured(), measured(**changes), pool_size=8))


def test_sessions_that_belong_to_nobody_and_processes_that_are_gone_are_named() -> None:
    assert left_over(measured(), replace(measured(), sessions=9), pool_size=8) == [
        "Postgres has 9 sessions, and may have 8"
    ]
    assert left_over(measured(), replace(measured(), levels={}), pool_size=8)[0] == "socket does not run"


def test_memory_is_compared_only_of_what_lived_through_everything() -> None:
    later = replace(measured(), memory={("socket", 7, 1.0): 130 * 2**20, ("socket", 7, 2.0): 900 * 2**20})
    assert growth_mb(measured(), later) == {("socket", 7, 1.0): 30.0}


# --- clients, backends, the network --------------------------------------------------------------------------


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


# --- the report and the command line -------------------------------------------------------------------------


def test_the_report_tells_of_what_was_seen_and_of_what_was_violated() -> None:
    good = Figures(1, 90.0, faults={"flushall": 2}, accepted=1_234, converged_s=3.5, memory_mb=20.0)
    bad = Figures(2, 90.0, faults={"flushall": 1}, violation="it is gone", complaints={"[error] oh": 3})
    assert exit_status([good]) == 0
    assert exit_status([good, bad]) == 1
    text = table([good])
    assert "every promise was kept" in text
    assert "longest time to converge: 3.5 s" in text
    text = table([good, bad])
    assert "flushall 3" in text
    assert "VIOLATED in seed 2: it is gone" in text
    assert "seed 2, 3 times in the log: [error] oh" in text
    assert "every promise" not in text


def test_complaints_are_what_bellhop_itself_calls_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "socket          | [error    ] a stream failed [socket_server.delivery] process=socket session=abc\n"
        "socket          | [error    ] a stream failed [socket_server.delivery] process=socket session=def\n"
        "worker          | [error    ] consumer: Cannot connect [celery.worker.consumer] process=worker\n"
        "bellhop         | worker ended with status 1; starting it again in 0.1 s\n"
        "bellhop         | worker was killed by SIGKILL; starting it again in 0.1 s\n"
        "bellhop         | socket-2 ended with status 0; starting it again in 0.1 s\n"
        "worker          | [warning  ] postgres is away [workers.tasks] process=worker\n"
    )
    assert session._complaints(log) == {
        "[error    ] a stream failed [socket_server.delivery] process=… session=…": 2,
        "worker ended with status …; starting it again in … s": 1,
    }


def test_the_command_that_replays_a_seed_is_complete() -> None:
    options = Options(seed=1, seconds=20, seeds=3, faults=("flushall", "kill-api"), users=10, devices=2, rate=50)
    assert options.replay(2) == (
        "python -m ops prove --seed 2 --seconds 20 --users 10 --devices 2 --rate 50 --faults flushall,kill-api --keep"
    )


def test_unknown_faults_are_named_beside_all_there_are() -> None:
    wrong = CliRunner().invoke(app, ["prove", "--faults", "flushall,kill-everything"], env={"COLUMNS": "500"})
    assert wrong.exit_code == 2
    assert "kill-everything" in wrong.stderr
    assert all(kind in wrong.stderr for kind in Kind)


def started(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ops", "prove", "--users", "30", "--rate", "60", *arguments],
        cwd=ROOT,
        env={**os.environ, "BELLHOP_DATA_DIR": str(data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_being_asked_to_stop_leaves_nothing(tmp_path: Path) -> None:
    with started(tmp_path / "data", "--seconds", "60", "--faults", "freeze-worker,freeze-socket") as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "freeze" in line and " for " in line:
                    break
            below = psutil.Process(process.pid).children(recursive=True)
            assert len(below) > 10
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(60) == 130, said
        finally:
            process.kill()
    assert "everything was stopped" in said
    end = time.monotonic() + 10
    while left := [each for each in below if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < end, left
        time.sleep(0.1)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".gitignore"]


@pytest.mark.timeout(400)
def test_a_short_run_with_real_faults_keeps_every_promise(tmp_path: Path) -> None:
    kinds = "kill-worker,kill-socket,drain-socket,flushall,kill-postgres,drop-clients,deaf-clients"
    with started(tmp_path / "data", "--seconds", "22", "--seed", "3", "--faults", kinds) as process:
        try:
            output, errors = process.communicate(timeout=380)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    (line,) = map(json.loads, output.splitlines())
    assert line["violation"] is None
    assert set(line["faults"]) == set(kinds.split(","))
    for name in ("accepted", "dispatched", "deliveries", "expired", "actions", "frames", "reconnects"):
        assert line[name] > 0, name
    for name in ("events", "presence_changes", "digests", "gathered", "translated", "misfits"):
        assert line[name] > 0, name
    assert line["audit_faults"] == 0
    left = line["accepted"] + line["digests"] - line["dispatched"] - line["expired"]
    assert 0 <= left <= line["cancelled"] + line["digests"]
    assert line["complaints"] == {}
    assert "every promise was kept" in errors
    assert "longest time to converge" in errors
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".gitignore"]

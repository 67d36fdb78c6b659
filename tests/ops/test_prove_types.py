"""What the proof looks for where types are registered: in digests, texts and ends. Each check with made-up faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from api.compiled_types import CompiledType
from models.contracts import TypeIn
from models.digest_times import closes_at
from models.states import EXPIRED_IN_DIGEST, FOLDED
from ops.prove import gathered, verify, wording
from ops.prove.alarm import ViolationError
from ops.prove.catalogue import TTL_S, TYPES, text_of, thread_of
from ops.prove.ledger import BRIEF, GATHERED, WORDED, Cancelled, Ledger, Posted
from ops.prove.replica import Replica
from ops.prove.truth import Delivery, Digest, Event, Inbox, Notification, Suppression, Truth

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EN, UK = "en", "uk"


def notification(posted: Posted, **changes: Any) -> Notification:
    """Return a row as it must be."""
    said = {None: text_of(posted, EN), EN: text_of(posted, EN), UK: text_of(posted, UK)} if posted.is_worded else {}
    row = Notification(
        posted.key, posted.users, posted.priority, posted.deliver_at, posted.expires_at, NOON, posted.type, said
    )
    return replace(row, **changes)


def item(key: str, posted: Posted, locale: str | None) -> dict[str, Any]:
    title, body = text_of(posted, locale)
    return {"id": key, "title": title, "body": body}


def digest(number: int, user: str, arrived: str, first: int, ids: tuple[str, ...], **changes: Any) -> Digest:
    positions = tuple(range(first, first + len(ids)))
    closed = Digest(number, user, GATHERED, "0", NOON + 5 * SECOND, arrived, positions, ids, (), len(ids))
    return replace(closed, **changes)


def kept() -> tuple[Ledger, Truth]:
    """Ada, who reads Ukrainian, and Bob, with digests of hers (d1, then d2), and of his (d3)."""
    ledger = Ledger()
    ledger.locales = {"ada": "uk-UA", "bob": "de"}
    both = ("ada", "bob")
    posted = {
        "g3": Posted("k3", 0, 3, both, "low", registered=GATHERED),
        "g6": Posted("k6", 0, 6, ("ada",), "normal", registered=GATHERED),
        "g9": Posted("k9", 0, 9, ("ada",), "low", registered=GATHERED),
        "g12": Posted("k12", 0, 12, ("bob",), "low", registered=GATHERED, expires_at=NOON + 2 * SECOND),
        "g15": Posted("k15", 0, 15, both, "low", registered=GATHERED),
        "g18": Posted("k18", 0, 18, both, "low", registered=GATHERED),
        "w21": Posted("k21", 0, 21, both, "high", registered=WORDED),
        "h24": Posted("k24", 0, 24, ("bob",), "high", registered=GATHERED),
        "b27": Posted("k27", 0, 27, ("bob",), "low", registered=BRIEF),
    }
    for key, each in posted.items():
        ledger.accept(each, key)
    ledger.cancel("g15", Cancelled(2, 0, 0))  # while it waited
    ledger.cancel("g18", Cancelled(0, 0, 2))  # when it had arrived
    rows = {key: notification(each) for key, each in posted.items()}
    rows["b27"] = replace(rows["b27"], expires_at=NOON + TTL_S * SECOND)
    made = {
        "d1": (digest(1, "ada", "d1", 1, ("g3", "g6")), "normal"),
        "d2": (digest(2, "ada", "d2", 4, ("g9", "g18")), "low"),
        "d3": (digest(3, "bob", "d3", 3, ("g3", "g18")), "low"),
    }
    digests = []
    for key, (each, priority) in made.items():
        locale = ledger.locales[each.user]
        items = tuple(item(id_, posted[id_], locale) for id_ in each.ids)
        digests.append(replace(each, items=items))
        rows[key] = replace(notification(posted[each.ids[-1]]), key=None, users=(each.user,), priority=priority)
    return ledger, Truth(
        notifications=rows,
        digests=digests,
        deliveries=[
            Delivery("ada", 1, "d1", NOON, unread=True, unseen=True, locale=UK),
            Delivery("ada", 2, "d2", NOON, unread=True, unseen=True, locale=UK),
            Delivery("ada", 3, "w21", NOON, unread=True, unseen=True, locale=UK),
            Delivery("bob", 1, "d3", NOON, unread=True, unseen=True),
            Delivery("bob", 2, "w21", NOON, unread=True, unseen=True),
            Delivery("bob", 3, "h24", NOON, unread=True, unseen=True),
        ],
        inboxes={user: Inbox(user, 3, 3, 3) for user in both},
        events=[
            Event("g15", "cancelled", NOON),
            Event("g18", "cancelled", NOON),
            Event("b27", "expired", NOON + 9 * SECOND),
        ],
        suppressions=[Suppression("g12", "bob", EXPIRED_IN_DIGEST)],
    )


def test_kept_promises_pass() -> None:
    ledger, truth = kept()
    verify.everything(ledger, truth)
    assert truth.arrived == {"d1", "d2", "d3"}
    assert truth.counts() == {"accepted": 9, "dispatched": 10, "deliveries": 6, "expired": 1, "digests": 3}
    assert verify.most_counted(ledger, truth)["dispatched"] == 11, "g15 was in a digest, and left no trace there"
    assert wording.told_by_template(ledger, truth) == 3 + 4


def change(truth: Truth, nth: int, **changes: Any) -> None:
    truth.digests[nth] = replace(truth.digests[nth], **changes)


def lose_an_entry(_: Ledger, truth: Truth) -> None:
    change(truth, 2, ids=("g18",), items=truth.digests[2].items[1:], positions=(4,), count=1)


def lose_what_a_digest_became(_: Ledger, truth: Truth) -> None:
    del truth.notifications["d3"]


def lose_a_digest(_: Ledger, truth: Truth) -> None:
    del truth.deliveries[3]


def deliver_a_digest_to_a_stranger(_: Ledger, truth: Truth) -> None:
    truth.deliveries.append(Delivery("bob", 4, "d1", NOON, unread=True, unseen=True))


def gather_in_two_digests(ledger: Ledger, truth: Truth) -> None:
    items = (item("g3", ledger.accepted["g3"], UK), *truth.digests[1].items)
    change(truth, 1, ids=("g3", "g9", "g18"), positions=(4, 5, 6), items=items, count=3)


def gather_and_deliver(_: Ledger, truth: Truth) -> None:
    truth.deliveries.append(Delivery("bob", 4, "g3", NOON, unread=True, unseen=True))


def deliver_alone(_: Ledger, truth: Truth) -> None:
    """Let what belongs into a digest arrive beside it."""
    truth.deliveries.append(Delivery("bob", 4, "g9", NOON, unread=True, unseen=True))


def gather_what_is_urgent(ledger: Ledger, truth: Truth) -> None:
    ledger.accepted["g9"] = replace(ledger.accepted["g9"], priority="high")


def gather_under_another_key(_: Ledger, truth: Truth) -> None:
    change(truth, 0, key="2")


def gather_what_is_cancelled(_: Ledger, truth: Truth) -> None:
    change(truth, 2, ids=("g3", "g15", "g18"), positions=(3, 4, 5), count=3)


def leave_one_open(_: Ledger, truth: Truth) -> None:
    change(truth, 2, closed_at=None)


def reopen(_: Ledger, truth: Truth) -> None:
    """Add to one that arrived already."""
    change(truth, 0, ids=("g3", "g6", "g9"), positions=(1, 2, 3))
    change(truth, 1, ids=("g18",), positions=(4,), items=truth.digests[1].items[1:], count=1)


def overlap(_: Ledger, truth: Truth) -> None:
    change(truth, 0, positions=(1, 5))


def close_without_arriving(_: Ledger, truth: Truth) -> None:
    change(truth, 2, arrived=None)
    del truth.notifications["d3"]
    truth.deliveries[3] = replace(truth.deliveries[3], id="h24")
    del truth.deliveries[5]
    truth.inboxes["bob"] = Inbox("bob", 2, 2, 2)


def list_another_order(_: Ledger, truth: Truth) -> None:
    change(truth, 0, items=truth.digests[0].items[::-1])


def gather_in_another_order(ledger: Ledger, truth: Truth) -> None:
    change(truth, 1, ids=("g18", "g9"), items=truth.digests[1].items[::-1])


def list_less(_: Ledger, truth: Truth) -> None:
    change(truth, 0, items=truth.digests[0].items[:1], more=1)


def miscount(_: Ledger, truth: Truth) -> None:
    change(truth, 0, count=3, more=1)


def play_down(_: Ledger, truth: Truth) -> None:
    truth.notifications["d1"] = replace(truth.notifications["d1"], priority="low")


def arrive_in_another_order(_: Ledger, truth: Truth) -> None:
    truth.notifications["d1"] = replace(truth.notifications["d1"], priority="low")
    truth.deliveries[:2] = [replace(truth.deliveries[0], seq=2), replace(truth.deliveries[1], seq=1)]


def gather_what_had_expired(ledger: Ledger, truth: Truth) -> None:
    ledger.accepted["g3"] = replace(ledger.accepted["g3"], expires_at=NOON)
    truth.notifications["g3"] = replace(truth.notifications["g3"], expires_at=NOON)


def suppress_what_never_expires(ledger: Ledger, truth: Truth) -> None:
    truth.notifications["g12"] = replace(truth.notifications["g12"], expires_at=None)
    ledger.accepted["g12"] = replace(ledger.accepted["g12"], expires_at=None)


def fold_what_gathers(ledger: Ledger, truth: Truth) -> None:
    ledger.accepted["g12"] = replace(ledger.accepted["g12"], collapse_key="k")
    truth.suppressions[0] = replace(truth.suppressions[0], rule=FOLDED)


def tell_other_numbers(ledger: Ledger, truth: Truth) -> None:
    ledger.cancelled["g18"] = Cancelled(0, 0, 1)


def speak_another_language(_: Ledger, truth: Truth) -> None:
    truth.deliveries[2] = replace(truth.deliveries[2], locale=EN)


def speak_a_language_that_is_not_there(_: Ledger, truth: Truth) -> None:
    truth.deliveries[4] = replace(truth.deliveries[4], locale="de")


def reword(_: Ledger, truth: Truth) -> None:
    said = {**truth.notifications["w21"].said, UK: ("21 від 1", "Гілка 0.")}
    truth.notifications["w21"] = replace(truth.notifications["w21"], said=said)


def list_in_another_language(ledger: Ledger, truth: Truth) -> None:
    change(truth, 0, items=(item("g3", ledger.accepted["g3"], EN), truth.digests[0].items[1]))


def entitle_by_the_oldest(ledger: Ledger, truth: Truth) -> None:
    truth.notifications["d2"] = replace(truth.notifications["d2"], said=notification(ledger.accepted["g9"]).said)


def never_end(_: Ledger, truth: Truth) -> None:
    truth.notifications["b27"] = replace(truth.notifications["b27"], expires_at=NOON + 60 * SECOND)


def store_another_type(_: Ledger, truth: Truth) -> None:
    truth.notifications["b27"] = replace(truth.notifications["b27"], type=WORDED)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lose_an_entry, "notification g3 of k3: not delivered to bob"),
        (lose_what_a_digest_became, "1 digests arrived as what is not there: d3"),
        (lose_a_digest, r"digest 3 of bob arrived as d3, with \{\} and not with \{'bob': 1\}"),
        (deliver_a_digest_to_a_stranger, r"digest 1 of ada arrived as d1, with \{'ada': 1, 'bob': 1\} and not with"),
        (gather_in_two_digests, "g3 of k3: delivered more than once to ada"),
        (gather_and_deliver, "g3 of k3: delivered more than once to bob"),
        (deliver_alone, "g9 of k9: delivered to bob, for whom it was not"),
        (gather_what_is_urgent, "otherwise than they were posted: g9"),
        (gather_under_another_key, "2 gathered where they do not belong: g3 in the digest 1 of ada, g6 in"),
        (gather_what_is_cancelled, "g15 of k15: not delivered to ada, and cancelled for 2"),
        (leave_one_open, "1 digests are still open: digest 3 of bob"),
        (reopen, "digest 1 of ada has the 3 entries g3, g6, g9; it arrived with g3, g6 of 2, and 0 more"),
        (overlap, "digest 1 of ada got an entry when the digest 2 of ada had been opened"),
        (close_without_arriving, "digest 3 of bob closed with 2 entries, and arrived as nothing"),
        (list_another_order, "entries g3, g6; it arrived with g6, g3 of 2"),
        (gather_in_another_order, "digest 2 of ada has the low notification 9 of poster 0 after its 18"),
        (list_less, "entries g3, g6; it arrived with g3 of 2, and 1 more"),
        (miscount, "has the 2 entries g3, g6; it arrived with g3, g6 of 3, and 1 more"),
        (play_down, "digest 1 of ada arrived as low; its most urgent entry is normal"),
        (gather_what_had_expired, "2 had expired when their digest closed, and are in it: g3 in the digest 1 of ada"),
        (
            suppress_what_never_expires,
            "g12 of k12: suppressed for bob because it expired .* and not because of anything",
        ),
        (fold_what_gathers, "g12 of k12: suppressed for bob because a newer one .* and not because of it expired"),
        (tell_other_numbers, "cancelling g18 was answered .* it reached 2"),
        (speak_another_language, r"ada was told of w21 as \('21 from 0', .* who reads uk-UA: \('21 від 0'"),
        (speak_a_language_that_is_not_there, "bob was told of w21 as None, who reads de"),
        (reword, r"ada was told of w21 as \('21 від 1'"),
        (list_in_another_language, r"digest 1 tells ada of g3 as \('3 from 0'"),
        (entitle_by_the_oldest, r"ada was told of d2 as \('9 від 0'.* who reads uk-UA: \('18 від 0'"),
        (never_end, "b27 expires at .*; its type says at"),
        (store_another_type, "otherwise than they were posted: b27"),
    ],
)
def test_a_broken_promise_is_seen_and_named(broken: Callable[[Ledger, Truth], None], said: str) -> None:
    ledger, truth = kept()
    broken(ledger, truth)
    with pytest.raises(ViolationError, match=said):
        verify.everything(ledger, truth)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (deliver_alone, "1 arrived outside of a digest: g9 with bob"),
        (gather_what_is_urgent, "1 gathered where they do not belong: g9 in the digest 2 of ada"),
    ],
)
def test_what_is_in_a_digest_is_what_belongs_there(broken: Callable[[Ledger, Truth], None], said: str) -> None:
    ledger, truth = kept()
    broken(ledger, truth)
    with pytest.raises(ViolationError, match=said):
        gathered.what_gathers_is_in_its_digest_and_nothing_else_is(ledger, truth)


def test_of_two_digests_that_are_as_urgent_the_earlier_one_arrives_first() -> None:
    ledger, truth = kept()
    arrive_in_another_order(ledger, truth)
    with pytest.raises(ViolationError, match="digest 2 of ada arrived under 1, and the digest 1 of ada under 2"):
        gathered.order_was_kept(ledger, truth)
    truth.notifications["d1"] = replace(truth.notifications["d1"], priority="normal")
    gathered.order_was_kept(ledger, truth)


def test_one_that_expired_before_it_could_arrive_reaches_nobody() -> None:
    _, truth = kept()
    truth.notifications["d3"] = replace(truth.notifications["d3"], expires_at=NOON + 7 * SECOND)
    truth.events.append(Event("d3", "expired", NOON + 8 * SECOND))
    with pytest.raises(ViolationError, match=r"arrived as d3, with \{'bob': 1\} and not with \{\}"):
        gathered.each_arrived_once(truth)
    del truth.deliveries[3]
    gathered.each_arrived_once(truth)
    verify.books_balance(truth)


@pytest.mark.parametrize("changes", [{"ids": ("g3",), "positions": (1,)}, {"closed_at": NOON}, {"arrived": "d9"}])
def test_a_closed_one_that_changes_is_seen(changes: dict[str, Any]) -> None:
    _, truth = kept()
    before = [*truth.digests, replace(truth.digests[2], id=9, closed_at=None)]
    gathered.closed_ones_are_as_they_were(before, truth)
    change(truth, 0, **changes)
    with pytest.raises(ViolationError, match="1 digests had closed, and changed afterwards: digest 1 of ada"):
        gathered.closed_ones_are_as_they_were(before, truth)
    del truth.digests[0]
    with pytest.raises(ViolationError, match="digest 1 of ada"):
        gathered.closed_ones_are_as_they_were(before, truth)


def test_a_device_that_shows_another_text_is_seen() -> None:
    ledger, _ = kept()
    shown = [
        {
            "seq": 1,
            "type": GATHERED,
            **item("d1", ledger.accepted["g6"], UK),
            "data": {"items": [item("g3", ledger.accepted["g3"], UK)]},
        },
        {"seq": 2, "type": WORDED, **item("w21", ledger.accepted["w21"], UK), "data": {}},
        {"seq": 3, "type": "bellhop.stack.started", "id": "x", "title": "", "body": "", "data": {}},
    ]
    copy = Replica()
    copy.items = {each["seq"]: each for each in shown}
    device: Any = SimpleNamespace(user="ada", replica=copy)
    wording.devices_show_it([device], ledger)
    for wrong in (shown[0]["data"]["items"][0], shown[1]):
        right = wrong["body"]
        wrong["body"] = "Something else."
        with pytest.raises(ViolationError, match=f"a device of ada shows {wrong['id']} as .*Something else"):
            wording.devices_show_it([device], ledger)
        wrong["body"] = right


# --- what the proof takes for granted of the engine ----------------------------------------------------------


@pytest.mark.parametrize("name", [WORDED, GATHERED])
def test_the_templates_say_what_the_proof_expects(name: str) -> None:
    compiled = CompiledType.of(1, TypeIn.model_validate(TYPES[name]))
    for nth in range(1, 8):
        posted = Posted("k", 3, nth, ("ada",), "low", registered=name)
        texts = compiled.wordings(None, None, {"poster": 3, "nth": nth, "thread": thread_of(posted), "actor": None})
        assert {locale: (text["title"], text["body"]) for locale, text in texts.items()} == {
            EN: text_of(posted, None),
            UK: text_of(posted, "uk-UA"),
        }


def test_a_digest_of_the_proof_closes_within_a_minute() -> None:
    every = TYPES[GATHERED]["digest"]["every"]
    assert SECOND <= closes_at(every, NOON + SECOND) - NOON <= 60 * SECOND

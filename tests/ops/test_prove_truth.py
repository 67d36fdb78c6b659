"""The proof's check of what the database says: kept promises pass, and each broken one is named."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from models.states import FOLDED
from ops.prove import verify
from ops.prove.alarm import ViolationError
from ops.prove.ledger import Acted, Cancelled, Ledger, Posted
from ops.prove.metrics import counters_in, mended_in
from ops.prove.truth import Change, Delivery, Event, Inbox, Notification, Suppression, Truth

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


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

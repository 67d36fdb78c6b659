"""The promises, each a function that returns, or raises `ViolationError` and says what does not hold. Pure.

They look at a system in which nothing moves any more: everything was answered, mended, and given its time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from models.states import EXPIRED_IN_DIGEST, FOLDED, OVERTAKEN
from ops.prove import gathered, wording
from ops.prove.alarm import ViolationError, none_of, some
from ops.prove.ledger import MUTED
from ops.prove.target import KEPT

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

    from ops.prove.device import Device
    from ops.prove.ledger import Ledger, Posted
    from ops.prove.truth import Truth


MUTES = f"the user mutes the domain {MUTED}"


def everything(ledger: Ledger, truth: Truth) -> None:
    """Check all that the database and the ledger say between them."""
    what_was_accepted_is_there_and_nothing_else(ledger, truth)
    nothing_waits(truth)
    each_is_where_it_belongs_once(ledger, truth)
    gathered.everything(ledger, truth)
    wording.everything(ledger, truth)
    what_was_taken_back_is_gone(ledger, truth)
    times_were_kept(truth)
    numbers_have_no_gap(truth)
    order_was_kept(ledger, truth)
    counters_are_right(truth)
    books_balance(truth)
    actions_stand_in_the_log(ledger, truth)
    what_was_said_is_in_its_room_once_and_in_order(ledger, truth)


def what_was_accepted_is_there_and_nothing_else(ledger: Ledger, truth: Truth) -> None:
    """Check that each answer's id is a row as it was posted, and that each row was answered to somebody."""
    none_of(ledger.accepted.keys() - truth.notifications.keys(), "accepted, and not in the database")
    none_of(
        truth.notifications.keys() - ledger.accepted.keys() - truth.arrived, "in the database, and accepted from nobody"
    )
    other = [
        notification_id
        for notification_id, posted in ledger.accepted.items()
        if ((row := truth.notifications[notification_id]).key or "") != posted.key
        or set(row.users) != set(posted.users)
        or row.priority != posted.priority
        or (posted.registered and row.type != posted.registered)
    ]
    none_of(other, "stored otherwise than they were posted")


def nothing_waits(truth: Truth) -> None:
    """Check that the outbox is empty and nothing is parked."""
    if truth.outbox:
        msg = f"{truth.outbox} rows still wait in the outbox"
        raise ViolationError(msg)
    none_of((f"{key} ({reason})" for key, reason in truth.parked.items()), "parked")


def each_is_where_it_belongs_once(ledger: Ledger, truth: Truth) -> None:
    """Check that there is one delivery for each recipient and none for others, or one event that says it expired.

    A place in a digest is as good as a delivery.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for delivery in truth.deliveries:
        found[delivery.id][delivery.user] += 1
    for digest in truth.digests:
        for gathered_id in digest.ids:
            found[gathered_id][digest.user] += 1
    none_of(found.keys() - ledger.accepted.keys() - truth.arrived, "delivered, and accepted from nobody")
    refused: dict[str, dict[str, str]] = defaultdict(dict)
    for each in truth.suppressions:
        refused[each.id][each.user] = each.rule
    expired = Counter(event.id for event in truth.expired)
    for key, posted in ledger.accepted.items():
        never = cancelled.cancelled if (cancelled := ledger.cancelled.get(key)) else 0
        wrong = _wrongly_delivered(posted, found[key], expired[key], never, refused[key])
        wrong = wrong or _wrongly_refused(posted, found[key], refused[key], ledger.muting)
        if wrong:
            msg = f"notification {key} of {posted.key}: {wrong}"
            raise ViolationError(msg)


def _wrongly_refused(posted: Posted, found: Container[str], refused: Mapping[str, str], muting: Collection[str]) -> str:
    if both := [user for user in refused if user in found]:
        return f"delivered to {some(both)}, and suppressed"
    if unheard := [user for user in posted.users if posted.is_refused_by(user, muting) and user in found]:
        return f"delivered to {some(unheard)}, who mute it"
    for user, rule in refused.items():
        wanted = "anything"
        if posted.is_refused_by(user, muting):
            wanted = MUTES
        elif posted.gathers:
            wanted = EXPIRED_IN_DIGEST if posted.may_expire else wanted
        elif posted.collapse_key:
            wanted = OVERTAKEN if rule == OVERTAKEN else FOLDED
        if rule != wanted:
            return f"suppressed for {user} because {rule}, and not because of {wanted}"
    return ""


def _wrongly_delivered(posted: Posted, found: Counter[str], expired: int, never: int, refused: Container[str]) -> str:
    if doubled := [user for user, times in found.items() if times > 1]:
        return f"delivered more than once to {some(doubled)}"
    if expired:
        if not posted.may_expire:
            return "expired, though it never does"
        return "expired, and delivered all the same" if found else "expired twice" if expired > 1 else ""
    missing = {user for user in posted.users if user not in found and user not in refused}
    if len(missing) != never:
        return f"not delivered to {some(missing)}" + f", and cancelled for {never}" * bool(never)
    if others := found.keys() - set(posted.users):
        return f"delivered to {some(others)}, for whom it was not"
    return ""


def what_was_taken_back_is_gone(ledger: Ledger, truth: Truth) -> None:
    """Check that nobody has what has expired, and that whoever cancelled something was told the truth."""
    ended = {key for key, row in truth.notifications.items() if row.expires_at is not None}
    left = [each for each in truth.deliveries if not each.deleted]
    none_of((f"{each.id} with {each.user}" for each in left if each.id in ended), "expired, and still there")
    none_of(truth.cancelled ^ ledger.cancelled.keys(), "cancelled, and not answered so, or the other way")
    reached = Counter(each.id for each in truth.deliveries)
    reached.update(each for digest in truth.digests for each in digest.ids)
    deleted = Counter(each.id for each in truth.deliveries if each.deleted)
    for key, told in ledger.cancelled.items():
        if told.recalled + told.already_read != reached[key] or told.recalled > deleted[key]:
            found = f"reached {reached[key]}, and was deleted by {deleted[key]}"
            msg = f"cancelling {key} was answered {told}; it {found}"
            raise ViolationError(msg)


def times_were_kept(truth: Truth) -> None:
    """Check that nothing was delivered before its time or after its end, and that nothing ended early."""
    for delivery in truth.deliveries:
        row = truth.notifications[delivery.id]
        if row.expires_at is not None and delivery.delivered_at >= row.expires_at:
            msg = f"notification {delivery.id} was delivered at {delivery.delivered_at}, after it expired"
            raise ViolationError(msg)
        if row.deliver_at is not None and delivery.delivered_at < row.deliver_at:
            msg = f"notification {delivery.id} was delivered at {delivery.delivered_at}, before {row.deliver_at}"
            raise ViolationError(msg)
    for event in truth.expired:
        until = truth.notifications[event.id].expires_at
        if until is None or event.at < until:
            msg = f"notification {event.id} expired at {event.at}, before {until}"
            raise ViolationError(msg)


def numbers_have_no_gap(truth: Truth) -> None:
    """Check that deliveries and changes of an inbox together have the numbers from 1 to its last, each once."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for delivery in truth.deliveries:
        numbers[delivery.user].append(delivery.seq)
    for change in truth.changes:
        numbers[change.user].append(change.seq)
    for user, inbox in truth.inboxes.items():
        found = sorted(numbers[user])
        if found != list(range(1, inbox.last_seq + 1)):
            doubled = [number for number, times in Counter(found).items() if times > 1]
            missing = set(range(1, inbox.last_seq + 1)) - set(found)
            msg = (
                f"the inbox of {user}, whose last number is {inbox.last_seq}, has {len(found)} entries: "
                f"missing {some(missing)}, doubled {some(doubled)}"
            )
            raise ViolationError(msg)
    none_of(numbers.keys() - truth.inboxes.keys(), "users with entries and without an inbox")


def order_was_kept(ledger: Ledger, truth: Truth) -> None:
    """Check that what one poster sent in turn to one user in one priority is numbered in that order.

    What was to be delivered later has its turn later, so it is left out.
    """
    streams: dict[tuple[str, int, str], list[tuple[int, int]]] = defaultdict(list)
    for delivery in truth.deliveries:
        posted = ledger.accepted.get(delivery.id)  # none of a digest: `gathered` looks at those
        if posted is not None and posted.deliver_at is None:
            streams[delivery.user, posted.poster, posted.priority].append((delivery.seq, posted.nth))
    for (user, poster, priority), stream in streams.items():
        for (seq, nth), (next_seq, next_nth) in pairwise(sorted(stream)):
            if next_nth <= nth:
                msg = (
                    f"{user} has the {priority} notification {nth} of poster {poster} under {seq}, "
                    f"and {next_nth} of the same after it, under {next_seq}"
                )
                raise ViolationError(msg)


def counters_are_right(truth: Truth) -> None:
    """Check that an inbox's counters are what counting its deliveries gives."""
    unread = Counter(delivery.user for delivery in truth.deliveries if delivery.unread)
    unseen = Counter(delivery.user for delivery in truth.deliveries if delivery.unseen)
    for user, inbox in truth.inboxes.items():
        if (inbox.unread, inbox.unseen) != (unread[user], unseen[user]):
            msg = (
                f"the inbox of {user} says {inbox.unread} unread and {inbox.unseen} unseen; "
                f"its deliveries are {unread[user]} and {unseen[user]}"
            )
            raise ViolationError(msg)


def books_balance(truth: Truth) -> None:
    """Check that what was accepted is what was dispatched, cancelled, expired, or parked."""
    accepted = truth.counts()["accepted"]
    dispatched = truth.dispatched - truth.arrived
    expired = {event.id for event in truth.expired} - truth.arrived
    cancelled = truth.cancelled - dispatched - expired
    parts = [len(each) for each in (dispatched, cancelled, expired, truth.parked)]
    if accepted != sum(parts):
        msg = (
            f"{accepted} accepted are not {parts[0]} dispatched + {parts[1]} cancelled + "
            f"{parts[2]} expired + {parts[3]} parked"
        )
        raise ViolationError(msg)


def actions_stand_in_the_log(ledger: Ledger, truth: Truth) -> None:
    """Check that each action that was confirmed to have changed something stands under the number that was told."""
    log = {(change.user, change.seq): change.action for change in truth.changes}
    for acted in ledger.acted:
        found = log.get((acted.user, acted.seq))
        if found != acted.action:
            msg = f"{acted.action} of {acted.user} was confirmed as number {acted.seq}, which is {found or 'no change'}"
            raise ViolationError(msg)


def what_was_said_is_in_its_room_once_and_in_order(ledger: Ledger, truth: Truth) -> None:
    """Check that a room keeps what it must without gaps, as it was answered and nothing else, in speakers' order."""
    first: dict[str, int] = {}
    for name, room in truth.rooms.items():
        numbers = [entry["seq"] for entry in room.entries]
        first[name] = room.last_seq - len(numbers) + 1
        if numbers != list(range(first[name], room.last_seq + 1)) or first[name] > max(1, room.last_seq - KEPT + 1):
            msg = f"the room {name}, whose last number is {room.last_seq}, has the numbers {_ranges(numbers)}"
            raise ViolationError(msg)
    held = {
        (name, entry["seq"]): key
        for name, room in truth.rooms.items()
        for entry, key in zip(room.entries, room.keys, strict=True)
    }
    said = {place: each.key for place, each in ledger.said.items()}
    due = {(name, seq): key for (name, seq), key in said.items() if seq >= first.get(name, 1)}
    none_of((f"{key} as {seq} of {name}" for (name, seq), key in due.items() - held.items()), "said, and not there")
    none_of(
        (f"{key} as {seq} of {name}" for (name, seq), key in held.items() - said.items()), "there, and said by nobody"
    )
    last: dict[tuple[str, int], int] = {}
    for (name, seq), each in sorted(ledger.said.items()):
        before = last.get((name, each.speaker), 0)
        if each.nth <= before:
            msg = f"{name} has what speaker {each.speaker} said as {each.nth} under {seq}, after its {before}"
            raise ViolationError(msg)
        last[name, each.speaker] = each.nth


def room_copies_equal(devices: Iterable[Device], ledger: Ledger, truth: Truth) -> None:
    """Check that each device's copy of each of its rooms is what was said, and where it is kept what is kept."""
    kept = {name: {entry["seq"]: entry for entry in room.entries} for name, room in truth.rooms.items()}
    for device in devices:
        for copy in device.following.rooms.values():
            room = kept.get(copy.name, {})
            differing = [
                entry["seq"]
                for entry in copy.entries
                if entry["data"]["key"] != ledger.said[copy.name, entry["seq"]].key
                or entry != room.get(entry["seq"], entry)
            ]
            if differing:
                msg = f"a device of {device.user} has a copy of {copy.name} that differs in {some(differing)}"
                raise ViolationError(msg)


def most_counted(ledger: Ledger, truth: Truth) -> dict[str, int]:
    """Return what the metrics may count at most: what was taken out of a digest was dispatched, and left no trace."""
    counts = truth.counts()
    gone = {key for key in ledger.cancelled if ledger.accepted[key].gathers} - truth.dispatched
    return {**counts, "dispatched": counts["dispatched"] + len(gone)}


def metrics_are_within(metrics: Mapping[str, float], truth: Mapping[str, int]) -> None:
    """Check that no counter, summed over all processes that ever lived, says more than the database."""
    for name, counted in metrics.items():
        if counted > truth[name]:
            msg = f"the metrics count {counted:.0f} {name}; the database holds {truth[name]}"
            raise ViolationError(msg)


def deltas_are_equal(metrics: Mapping[str, float], truth: Mapping[str, int]) -> None:
    """Check that, where nothing died, metrics and database have grown by the same."""
    differing = {name: (counted, truth[name]) for name, counted in metrics.items() if counted != truth[name]}
    for name, (counted, held) in differing.items():
        msg = f"in the quiet round the metrics counted {counted:.0f} {name}, and the database {held}"
        raise ViolationError(msg)


def _ranges(numbers: Iterable[int]) -> str:
    """Return 1, 2, 3, 7 as `1 to 3, 7 to 7`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{first} to {last}" for first, last in ranges) or "none"

"""What is promised of digests, each a function that returns, or raises `ViolationError`. Pure.

They look at a system in which nothing moves any more, and so no digest is open. That each notification is in one place
for each of its recipients, a digest among them, is looked at where deliveries are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from models.digests import MOST_ITEMS
from models.states import Priority
from ops.prove.alarm import ViolationError, none_of
from ops.prove.catalogue import thread_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ops.prove.ledger import Ledger
    from ops.prove.truth import Digest, Truth


def everything(ledger: Ledger, truth: Truth) -> None:
    """Check all digests."""
    all_are_closed(truth)
    what_gathers_is_in_its_digest_and_nothing_else_is(ledger, truth)
    each_arrived_once(truth)
    each_lists_what_it_gathered(ledger, truth)
    order_was_kept(ledger, truth)


def all_are_closed(truth: Truth) -> None:
    """Check that nothing waits in a digest any more."""
    none_of((_named(digest) for digest in truth.digests if digest.closed_at is None), "digests are still open")


def what_gathers_is_in_its_digest_and_nothing_else_is(ledger: Ledger, truth: Truth) -> None:
    """Check that what is urgent arrived by itself, and what is not did not, and that each is under its own key."""
    ours = {key: posted for key, posted in ledger.accepted.items() if posted.gathers}
    none_of(
        (f"{each.id} with {each.user}" for each in truth.deliveries if each.id in ours), "arrived outside of a digest"
    )
    misplaced = [
        f"{each} in the {_named(digest)}"
        for digest in truth.digests
        for each in digest.ids
        if each not in ours or (digest.type, digest.key) != (ours[each].type, str(thread_of(ours[each])))
    ]
    none_of(misplaced, "gathered where they do not belong")
    late = [
        f"{each} in the {_named(digest)}"
        for digest in truth.digests
        for each in digest.ids
        if digest.closed_at is not None
        and (until := truth.notifications[each].expires_at) is not None
        and until <= digest.closed_at
    ]
    none_of(late, "had expired when their digest closed, and are in it")


def each_arrived_once(truth: Truth) -> None:
    """Check that a digest with entries was delivered to its user, once and to nobody else, unless it expired first."""
    reached: dict[str, Counter[str]] = defaultdict(Counter)
    for delivery in truth.deliveries:
        reached[delivery.id][delivery.user] += 1
    expired = {event.id for event in truth.expired}
    none_of(truth.arrived - truth.notifications.keys(), "digests arrived as what is not there")
    for digest in truth.digests:
        if digest.arrived is None:
            if digest.ids:
                msg = f"the {_named(digest)} closed with {len(digest.ids)} entries, and arrived as nothing"
                raise ViolationError(msg)
            continue
        wanted = {} if digest.arrived in expired else {digest.user: 1}
        if reached[digest.arrived] != wanted:
            msg = (
                f"the {_named(digest)} arrived as {digest.arrived}, with {dict(reached[digest.arrived])} "
                f"and not with {wanted}"
            )
            raise ViolationError(msg)


def each_lists_what_it_gathered(ledger: Ledger, truth: Truth) -> None:
    """Check that a digest says what is in it: all of it counted, in order, as much as may be listed, as urgent as that.

    What was added to one after it had closed is not in what it arrived as.
    """
    for digest in truth.digests:
        if digest.arrived is None:
            continue
        listed = tuple(item["id"] for item in digest.items)
        if (
            digest.count != len(digest.ids)
            or listed != digest.ids[:MOST_ITEMS]
            or digest.more != digest.count - len(listed)
        ):
            msg = (
                f"the {_named(digest)} has the {len(digest.ids)} entries {_briefly(digest.ids)}; "
                f"it arrived with {_briefly(listed)} of {digest.count}, and {digest.more} more"
            )
            raise ViolationError(msg)
        urgent = min((Priority(ledger.accepted[each].priority) for each in digest.ids), key=lambda each: each.rank)
        if (priority := truth.notifications[digest.arrived].priority) != urgent:
            msg = f"the {_named(digest)} arrived as {priority}; its most urgent entry is {urgent}"
            raise ViolationError(msg)


def order_was_kept(ledger: Ledger, truth: Truth) -> None:
    """Check the order of entries, and of digests, for each user and key."""
    seqs = {(delivery.id, delivery.user): delivery.seq for delivery in truth.deliveries}
    for digests in _by_key(truth.digests):
        one_ends_before_the_next_begins(digests)
        entries_are_in_the_order_of_their_posters(digests, ledger)
        for priority in (Priority.NORMAL, Priority.LOW):
            as_urgent = [each for each in digests if truth.notifications[str(each.arrived)].priority == priority]
            arrivals = [(seq, each) for each in as_urgent if (seq := seqs.get((str(each.arrived), each.user)))]
            for (seq, digest), (next_seq, following) in pairwise(arrivals):
                if next_seq < seq:
                    msg = f"the {_named(following)} arrived under {next_seq}, and the {_named(digest)} under {seq}"
                    raise ViolationError(msg)


def one_ends_before_the_next_begins(digests: Sequence[Digest]) -> None:
    """Check that nothing was added to a digest of a user and key when another one had been opened."""
    for digest, following in pairwise(digests):
        if digest.positions[-1] > following.positions[0]:
            msg = f"the {_named(digest)} got an entry when the {_named(following)} had been opened"
            raise ViolationError(msg)


def entries_are_in_the_order_of_their_posters(digests: Sequence[Digest], ledger: Ledger) -> None:
    """Check that what one poster sent in turn is in that order, within a digest and from one to the next.

    What was to be delivered later has its turn later, so it is left out.
    """
    last: dict[tuple[int, str], int] = {}
    for digest in digests:
        for posted in (ledger.accepted[each] for each in digest.ids):
            if posted.deliver_at is not None:
                continue
            stream = (posted.poster, posted.priority)
            if posted.nth <= (before := last.get(stream, 0)):
                msg = (
                    f"the {_named(digest)} has the {posted.priority} notification {posted.nth} of poster "
                    f"{posted.poster} after its {before}"
                )
                raise ViolationError(msg)
            last[stream] = posted.nth


def closed_ones_are_as_they_were(before: Iterable[Digest], truth: Truth) -> None:
    """Check that what had closed at an earlier look is as it was then, with the same entries."""
    now = {digest.id: digest for digest in truth.digests}
    changed = [_named(digest) for digest in before if digest.closed_at is not None and now.get(digest.id) != digest]
    none_of(changed, "digests had closed, and changed afterwards")


def _by_key(digests: Iterable[Digest]) -> list[list[Digest]]:
    """Return those with entries, of each user and key, in the order in which they began to gather."""

    def key(digest: Digest) -> tuple[str, str, str]:
        return digest.user, digest.type, digest.key

    filled = sorted(
        (digest for digest in digests if digest.ids), key=lambda digest: (*key(digest), digest.positions[0])
    )
    return [list(those) for _, those in groupby(filled, key)]


def _named(digest: Digest) -> str:
    return f"digest {digest.id} of {digest.user}"


def _briefly(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "") if ids else "nothing"  # noqa: PLR2004  # enough to see

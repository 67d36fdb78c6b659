"""What backends ask besides sending: the list of notifications, one recipient's view, and erasing a user."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from models.queries import erase, explain, inbox, listing, revocations
from models.states import ListStatus
from ops.plans.fill import DEEP, TENANT, WIDE_ID
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = 21
_FIRST_ID = "00000000-0000-0000-0000-000000000000"
_FILTERS: dict[str, object] = {
    "type": "shop.order.lost",
    "domain": "rare",
    "domains": ["rare", "none"],
    "priority": 0,
    "to": "u_7",
    "status": "scheduled",
}


def of_backends(notification_id: str) -> Iterator[Hot]:
    """Yield them. The notification is one to a single user."""
    yield from _lists()
    for name, key in (("one recipient", notification_id), ("many recipients", WIDE_ID)):
        yield Hot(
            f"explain, {name}",
            "GET why a user has a notification or has it not",
            explain.EXPLAIN,
            {"tenant": TENANT, "user": DEEP, "id": key},
        )
    some = inbox.list_deliveries(
        ListStatus.UNREAD, domain=False, type_=False, priority=False, before=False, domains=True
    )
    yield Hot(
        "list unread, some domains",
        "GET a deep inbox's list with a key for some domains",
        some,
        {"tenant": TENANT, "user": DEEP, "domains": ["shop", "rare"], "limit": _LIMIT},
    )
    yield from _erasing(notification_id)


def _lists() -> Iterator[Hot]:
    newest = {"tenant": TENANT, "after": "-infinity", "before": "infinity", "before_id": _FIRST_ID, "limit": _LIMIT}
    yield Hot("list notifications", "GET the newest notifications", listing.list_notifications(), newest)
    for name, value in _FILTERS.items():
        yield Hot(
            f"list notifications, {name}",
            "GET the newest notifications, by a filter that few pass",
            listing.list_notifications(name),
            {**newest, name: value},
        )
    yield Hot(
        "list notifications, times",
        "GET the notifications of some time",
        listing.list_notifications(),
        {**newest, "after": "2020-01-01T00:00:00Z", "before": "2100-01-01T00:00:00Z"},
    )
    yield Hot("end of window", "GET by a filter that few pass: where to go on", listing.END_OF_WINDOW, newest)


def _erasing(notification_id: str) -> Iterator[Hot]:
    now = datetime.now(UTC)
    whose: dict[str, Any] = {"tenant": TENANT, "user": DEEP, "begun": now}
    for name, statement, more in (
        ("subscriptions", erase.UNSUBSCRIBE_FROM_SOME, {"user": "u_7"}),
        ("look at the outbox", erase.NAMED_IN_OUTBOX, {"after": 10, "until": None, "event": None}),
        ("what still waits", erase.STILL_WAITING, {"ids": [notification_id]}),
        ("look at events", erase.NAMED_IN_EVENTS, {"after": 10, "until": None}),
        (
            "look at notifications",
            erase.NAMED_IN_NOTIFICATIONS,
            {"after": "-infinity", "after_id": "00000000-0000-0000-0000-000000000000"},
        ),
        ("lowest numbers", erase.ERASE_LOWEST_NUMBERS, {}),
        ("inbox", erase.DELETE_INBOX, {}),
        ("suppressions", erase.ERASE_SOME_SUPPRESSIONS, {"gone_at": now}),
        ("lock", erase.LOCK_THOSE_THAT_NAME_THEM, {"ids": [notification_id, WIDE_ID]}),
        ("out of audiences", erase.TAKE_OUT_OF_AUDIENCES, {"ids": [notification_id, WIDE_ID]}),
        ("forget what waits", erase.FORGET_WAITING, {"ids": [notification_id]}),
        ("forget what ended", erase.FORGET_ENDED, {"ids": [notification_id, WIDE_ID]}),
        ("preferences", erase.FORGET_PREFERENCES, {"user": "u_7"}),
        ("language alone", erase.FORGET_LANGUAGE_ALONE, {"user": "u_7"}),
        ("cursors", erase.FORGET_CURSORS, {}),
    ):
        yield Hot(f"erase, {name}", "DELETE a user", statement, {**whose, **more}, writes=True)
    yield Hot("revoke and erase", "DELETE a user: refuse older tokens", revocations.REVOKE_ERASED, whose, writes=True)

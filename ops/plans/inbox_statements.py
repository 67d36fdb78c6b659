"""The hot statements of inboxes: heads, the log, lists in all variants, one item, counts, and actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from models.queries import inbox
from models.states import Action, ListStatus
from ops.plans.fill import DEEP, TENANT, TIDY
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.plans.fill import Size

_HEADS = 256  # the most in one query
_PAGE = 100
_LIMIT = 21  # a page of twenty, and one more that says whether there is another
_SHALLOW = "u_7"

# Few rows of the deep inbox match them, and none of the newest.
_RARE_FILTERS: dict[str, dict[str, object]] = {
    "": {},
    "domain": {"domain": "rare"},
    "type": {"type": "shop.order.lost"},
    "priority": {"priority": 0},
    "domain and priority": {"domain": "shop", "priority": 0},
    "type and priority": {"type": "shop.order.lost", "priority": 0},
}


def reading(size: Size) -> Iterator[Hot]:
    """Yield what reads inboxes."""
    for count in (1, _HEADS):
        yield Hot(
            f"heads {count}",
            "socket node, every two seconds: has a connection missed anything?",
            inbox.HEADS,
            {"asked": _asked([f"u_{1 + nth}" for nth in range(min(count, size.inboxes))])},
        )
    yield from _log_pages(size)
    yield from _lists(size)
    yield Hot("one item", "GET one delivery", _list_of(one=True), _of(DEEP, seq=size.deep // 2, limit=1))
    for user in (_SHALLOW, DEEP):
        yield Hot(f"counts by domain, {_kind(user)}", "GET counts: what is unread", inbox.COUNTS_BY_DOMAIN, _of(user))


def _log_pages(size: Size) -> Iterator[Hot]:
    for name, since in (("near the head", size.deep), ("far behind", 10)):
        yield Hot(
            f"log, {name}",
            f"a client that comes back: {_PAGE} numbers of a deep inbox",
            inbox.LOG_PAGES,
            {"asked": _asked([DEEP], since=since, size=_PAGE)},
        )
    yield Hot(
        "log, 50 users",
        "clients that come back together: the last numbers of 50 shallow inboxes in one query",
        inbox.LOG_PAGES,
        {"asked": _asked([f"u_{1 + nth}" for nth in range(50)], since=60, size=_PAGE)},
    )


def _lists(size: Size) -> Iterator[Hot]:
    for status in ListStatus:
        for name, filters in _RARE_FILTERS.items():
            yield Hot(
                f"list {status}" + f", {name}" * bool(name),
                "GET a deep inbox's list" + ", by a filter that few rows match" * bool(name),
                _list_of(status, *filters),
                _of(DEEP, **filters, limit=_LIMIT),
            )
        yield Hot(
            f"list {status}, before",
            "GET a page from the middle of a deep inbox",
            _list_of(status, "before"),
            _of(DEEP, before=size.deep // 2, limit=_LIMIT),
        )
    for status in ListStatus:
        yield Hot(
            f"list {status}, tidy",
            "GET the list of a deep inbox whose owner archived the older half and deleted the newer one, but for five",
            _list_of(status),
            _of(TIDY, limit=_LIMIT),
        )
    yield Hot("list active, shallow", "GET a usual inbox's list", _list_of(), _of(_SHALLOW, limit=_LIMIT))


def acting(size: Size) -> Iterator[Hot]:
    """Yield what users do to their inboxes."""
    yield Hot("lock inbox", "before an action", inbox.LOCK_INBOX, _of(_SHALLOW), writes=True)
    for action in Action:
        yield Hot(
            f"{action} three",
            "act on three deliveries of a deep inbox",
            inbox.ACT_ON_SEQS[action],
            _of(DEEP, seqs=[1, 2, size.deep // 2], action=str(action)),
            writes=True,
        )
    for user in (_SHALLOW, DEEP):
        for action in Action if user == _SHALLOW else (Action.SEEN, Action.READ, Action.UNARCHIVE):
            yield Hot(
                f"{action} all, {_kind(user)}",
                "act on everything up to the head" + ", where it concerns few of many" * (user == DEEP),
                inbox.ACT_UP_TO[action],
                _of(user, up_to=size.deliveries, action=str(action)),
                writes=True,
            )


def _kind(user: str) -> str:
    return "deep" if user == DEEP else "shallow"


def _of(user: str, **more: object) -> dict[str, Any]:
    return {"tenant": TENANT, "user": user, **more}


def _list_of(status: ListStatus = ListStatus.ACTIVE, *filters: str, one: bool = False) -> str:
    return inbox.list_deliveries(
        ListStatus.ALL if one else status,
        domain="domain" in filters,
        type_="type" in filters,
        priority="priority" in filters,
        before="before" in filters,
        one=one,
    )


def _asked(users: list[str], **more: object) -> str:
    rows = [{"ord": nth, "tenant": TENANT, "user_id": user, **more} for nth, user in enumerate(users)]
    return orjson.dumps(rows).decode()

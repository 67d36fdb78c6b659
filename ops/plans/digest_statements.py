"""The hot statements of digests: gathering, closing, looking, cancelling, erasing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from models.digests import MOST_ITEMS
from models.queries import digests, erase
from ops.plans.fill import DEEP, TENANT, TOPIC, WIDE_ID
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNKS = (500, 5_000)
_CLOSED_AT_ONCE = 50
_OF_USER = 101
_NEW_ID = "ffffffff-0000-7000-8000-{:012x}"


def of_digests(keys: Sequence[str]) -> Iterator[Hot]:
    """Yield them; `keys` are notifications to one user each."""
    later = datetime.now(UTC) + timedelta(hours=1)
    entries = [
        {
            "nth": nth,
            "tenant": TENANT,
            "user_id": f"u_{1 + nth}",
            "type": "shop.order.shipped",
            "key": "",
            "closes_at": later,
            "notification_id": key,
        }
        for nth, key in enumerate(keys)
    ]
    for name, chosen in (("gather 1", slice(1)), ("gather 500", slice(None))):
        gathered = {"entries": orjson.dumps(entries[chosen]).decode()}
        yield Hot(name, "worker: add to the open digests of users", digests.GATHER, gathered, writes=True)
    for everyone in (False, True):
        for count in _CHUNKS:
            yield Hot(
                f"gather {count}, {'everyone' if everyone else 'a topic'}",
                "worker: add a broadcast to the digests of the next users",
                digests.gather_broadcast(count, everyone=everyone),
                {
                    "tenant": TENANT,
                    "topic": TOPIC,
                    "id": WIDE_ID,
                    "type": "shop.sale",
                    "key": "",
                    "due_at": later,
                    "closes_at": later,
                    "excluded": "",
                    "position": 1,
                    "muted": orjson.dumps([{"user_id": "u_1", "rule": "it is muted"}]).decode(),
                },
                writes=True,
            )
    yield from _closing()
    one = {"id": WIDE_ID, "after": 0, "digests": list(range(1, 1_001))}
    yield Hot("next digests of one", "DELETE: which it leaves next", digests.digests_of(1_000), one)
    yield Hot("lock digests of one", "DELETE: before it leaves them", digests.LOCK_DIGESTS, one, writes=True)
    yield Hot("take out of digests", "DELETE: of whom it waits", digests.TAKE_OUT_OF_DIGESTS, one, writes=True)
    whose = {"tenant": TENANT, "user": DEEP}
    some = {**whose, "until": 2**63 - 1}
    yield Hot("erase, lock digests", "DELETE a user", erase.LOCK_SOME_DIGESTS, some, writes=True)
    yield Hot("erase, digests", "DELETE a user", erase.ERASE_DIGESTS, {"digests": [1, 2, 3]}, writes=True)


def _closing() -> Iterator[Hot]:
    due = digests.lock_due(_CLOSED_AT_ONCE)
    yield Hot("lock due digests", "sweep, every second: which close", due, {}, writes=True)
    for lock in (False, True):
        for name, domains in (("all", None), ("some domains", ["shop", "rare"])):
            yield Hot(
                f"open digests, {name}{', to close' * lock}",
                "GET or close what waits for a user",
                digests.open_of_user(_OF_USER, lock=lock),
                {"tenant": TENANT, "user": "u_7", "domains": domains},
                writes=lock,
            )
    ids = list(range(1, 1 + _CLOSED_AT_ONCE))
    yield Hot(f"read {_CLOSED_AT_ONCE} digests", "what they become", digests.read_digests(MOST_ITEMS), {"digests": ids})
    for count in (1, _CLOSED_AT_ONCE):
        rows = [_arrival(nth, digest) for nth, digest in enumerate(ids[:count])]
        yield Hot(
            f"close {count}",
            "let digests arrive",
            digests.CLOSE_IF_OPEN,
            {"digests": orjson.dumps(rows).decode()},
            writes=True,
        )


def _arrival(nth: int, digest: int) -> dict[str, Any]:
    return {
        "digest_id": digest,
        "id": _NEW_ID.format(nth),
        "tenant": TENANT,
        "type": "shop.order.shipped",
        "domain": "shop",
        "priority": 2,
        "title": f"Order {nth}",
        "body": "",
        "mutable": True,
        "data": {"items": [], "count": 3, "more": 3},
        "audience": {"user": "u_1"},
    }

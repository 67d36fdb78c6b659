"""The hot statements of topics and broadcasts: subscribing, listing, fanning out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from models.queries import dispatch, topics
from ops.plans.fill import TENANT, TOPIC, WIDE_ID
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator

_MANY = 1_000
_PAGE = 101
_CHUNKS = (500, 5_000)


def of_topics() -> Iterator[Hot]:
    """Yield what is done with topics."""
    topic = {"tenant": TENANT, "topic": TOPIC}
    for count in (1, _MANY):
        users = [f"u_{nth}" for nth in range(count)]
        yield Hot(
            f"subscribe {count}",
            "PUT: subscribe users",
            topics.SUBSCRIBE_IF_NEW,
            {**topic, "users": [f"new_{user}" for user in users]},
            writes=True,
        )
        yield Hot(
            f"unsubscribe {count}",
            "POST: unsubscribe users",
            topics.UNSUBSCRIBE,
            {**topic, "users": users},
            writes=True,
        )
    yield Hot(
        "list subscribers",
        "GET: a page of a topic",
        topics.SUBSCRIBERS_AFTER,
        {**topic, "after": "u_5", "limit": _PAGE},
    )
    for everyone in (False, True):
        for count in _CHUNKS:
            whose = "everyone" if everyone else "a topic"
            next_users = {
                **topic,
                "id": WIDE_ID,
                "due_at": datetime.now(UTC) + timedelta(hours=1),
                "excluded": "",
                "worded": True,
            }
            yield Hot(
                f"preferences of {whose}, {count}",
                "worker: what the next users of a broadcast do not want",
                dispatch.preferences_of_next(count, everyone=everyone),
                next_users,
            )
            yield Hot(
                f"next {count} of {whose}",
                "worker: who the next users of a broadcast are",
                dispatch.next_users(count, everyone=everyone),
                next_users,
            )
            written = {
                **next_users,
                "domain": "shop",
                "type": "shop.sale",
                "priority": 3,
                "position": 1,
                "muted": orjson.dumps([{"user_id": "u_1", "rule": "it is muted"}]).decode(),
                "silent": ["u_2"],
                "collapse_key": None,
                "collapsed": "{}",
                "locales": orjson.dumps({"u_3": "uk"}).decode(),
            }
            for name, careful in (("fan out", False), ("fan out carefully", True)):
                yield Hot(
                    f"{name} {count}, {whose}",
                    "worker: deliver a broadcast to the next users",
                    dispatch.fan_out(count, everyone=everyone, careful=careful),
                    written,
                    writes=True,
                )

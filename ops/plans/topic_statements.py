"""The hot statements of topics and broadcasts: subscribing, listing, fanning out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

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
            yield Hot(
                f"fan out {count}, {'everyone' if everyone else 'a topic'}",
                "worker: deliver a broadcast to the next users",
                dispatch.fan_out(count, everyone=everyone),
                {
                    **topic,
                    "id": WIDE_ID,
                    "due_at": datetime.now(UTC) + timedelta(hours=1),
                    "excluded": "",
                    "domain": "shop",
                    "type": "shop.sale",
                    "priority": 3,
                    "position": 1,
                },
                writes=True,
            )

"""The hot statements of rooms: publishing, heads, the log, trimming."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from models.queries import rooms
from ops.plans.fill import DEEP_ROOM, TENANT
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.plans.fill import Size

_HEADS = 256
_PAGE = 100
_KEPT = {"keep_events": 1_000, "keep_s": 604_800}


def of_rooms(size: Size) -> Iterator[Hot]:
    """Yield what is done with rooms."""
    for count, where in ((1, [_room(7)]), (100, [DEEP_ROOM]), (100, _rooms(size, 100))):
        each = count // len(where)
        yield Hot(
            f"publish {count} into {len(where)}",
            "POST: number and write events of rooms",
            rooms.PUBLISH,
            {
                "rooms": _json([{"name": room, "n": each, **_KEPT} for room in where]),
                "events": _json(
                    [
                        {"name": room, "nth": nth, "event": "order.updated", "data": {"nth": nth}}
                        for room in where
                        for nth in range(1, each + 1)
                    ]
                ),
            },
            writes=True,
        )
    for count in (1, 100):
        asked = [{"ord": nth, "name": DEEP_ROOM, "idempotency_key": f"key-{2 * nth}"} for nth in range(count)]
        yield Hot(
            f"room idempotency look-up {count}",
            "POST with keys: find what they were used for",
            rooms.FIND_EVENTS_BY_IDEMPOTENCY_KEY,
            {"keys": _json(asked)},
        )
    for count in (1, _HEADS):
        asked = [{"ord": nth, "name": room} for nth, room in enumerate(_rooms(size, count))]
        yield Hot(
            f"room heads {count}",
            "socket node, every two seconds: has a room missed anything?",
            rooms.ROOM_HEADS,
            {"asked": _json(asked)},
        )
    for name, where, since in (("deep", [DEEP_ROOM], 10), ("50 rooms", _rooms(size, 50), 0)):
        asked = [{"ord": nth, "name": room, "since": since, "size": _PAGE} for nth, room in enumerate(where)]
        yield Hot(f"room log, {name}", "join with an older number", rooms.ROOM_LOG_PAGES, {"asked": _json(asked)})
    yield Hot(
        "trim rooms", "worker, every five seconds: remove what is not kept", rooms.TRIM_ROOMS_IF_DUE, {}, writes=True
    )


def _room(nth: int) -> str:
    return f"shop:order:{nth}"


def _rooms(size: Size, count: int) -> list[str]:
    return [_room(1 + nth % size.inboxes) for nth in range(min(count, size.inboxes))]


def _json(rows: list[dict[str, object]]) -> str:
    return orjson.dumps([{"tenant": TENANT, **row} for row in rows]).decode()

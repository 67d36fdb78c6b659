"""What is noted to be asked for: where pushes went, and whether what was accepted is where it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from models.queries import audit, pushes
from ops.plans.fill import PUSHED_AT, WIDE_ID
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator

_DAY_S = 86_400
_FIRST_ID = "00000000-0000-0000-0000-000000000000"
_BATCH = 500


def of_evidence(notification_id: str) -> Iterator[Hot]:
    """Yield them. The notification is one to a single user."""
    row = {
        "dispatched_at": "2100-01-01T00:00:00Z",
        "priority": 2,
        "node": "node:8001:0000cafe",
        "age_s": 0.1,
        "notification_id": None,
        "users": _BATCH,
        "stretches": [(nth, 1, 1) for nth in range(_BATCH)],
    }
    yield Hot(
        f"note pushes {_BATCH}",
        "worker: to which nodes a batch was pushed",
        pushes.NOTE_PUSHES,
        {"rows": orjson.dumps([row]).decode()},
        writes=True,
    )
    yield Hot(
        "pushes of a batch",
        "GET a notification, or why a user has it: which nodes were told",
        pushes.PUSHES_OF_BATCH,
        {"dispatched_at": PUSHED_AT, "priority": 2},
    )
    for name, key in (("one recipient", notification_id), ("many recipients", WIDE_ID)):
        yield Hot(
            f"deliveries to named, {name}",
            "GET a notification: of which numbers nodes were told",
            pushes.DELIVERIES_TO_NAMED,
            {"id": key},
        )
    yield Hot(
        "pushes of a broadcast",
        "GET a notification: which nodes were told, and of how many users",
        pushes.PUSHES_OF_BROADCAST,
        {"id": WIDE_ID},
    )
    yield Hot(
        "forget pushes",
        "worker: remove the oldest",
        pushes.FORGET_PUSHES,
        {"age_s": _DAY_S},
        writes=True,
    )
    yield Hot(
        "look at notifications",
        "worker: are the next ones on their way, or at an end?",
        audit.LOOK_AT_NOTIFICATIONS,
        {"after": _FIRST_ID},
        writes=True,
    )
    yield Hot(
        "look again",
        "worker: what has become of those that were not?",
        audit.LOOK_AGAIN,
        {"after": _FIRST_ID},
        writes=True,
    )

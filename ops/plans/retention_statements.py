"""The hot statements of retention: rounds, a look at inboxes, retiring items, trimming logs, removing notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from models.queries import retention, tenants
from models.retention import ItemRetention, KeptItems
from ops.plans.fill import TENANT
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.plans.fill import Size

_TURN = {"what": "inboxes", "first": "0", "round_s": 3600.0}
_RULES = ItemRetention({"*": KeptItems(), "shop.*": KeptItems(items=500)})
_FIRST_ID = "00000000-0000-0000-0000-000000000000"


def of_retention(size: Size) -> Iterator[Hot]:
    """Yield what retention does; the last two inboxes are the deep ones."""
    rows = orjson.dumps(_RULES.rows(TENANT)).decode()
    yield Hot("begin a round", "worker: may a round begin?", retention.BEGIN_ROUND_IF_DUE, _TURN, writes=True)
    yield Hot(
        "move the cursor",
        "worker: how far a round is",
        retention.MOVE_CURSOR_IF_UNMOVED,
        {"what": "inboxes", "before": "1", "cursor": "2"},
        writes=True,
    )
    own = [{"tenant": TENANT, **_RULES.limits._asdict()}]
    for name, after in (("shallow", 0), ("deep", size.inboxes)):
        yield Hot(
            f"look at inboxes, {name}",
            "worker: in which of the next inboxes may something be too old or too much?",
            retention.LOOK_AT_INBOXES,
            {"own": orjson.dumps(own).decode(), **_RULES.limits._asdict(), "after": after},
        )
    for name, inbox in (("shallow", 7), ("deep", size.inboxes + 1)):
        yield Hot(
            f"find retirable, {name}",
            "worker: which items of an inbox are too old or too many",
            retention.FIND_RETIRABLE,
            {"inbox": inbox, "rules": rows},
        )
        yield Hot(
            f"lock inbox if free, {name}",
            "worker: before it changes an inbox",
            retention.LOCK_INBOX_IF_FREE,
            {"inbox": inbox},
            writes=True,
        )
        yield Hot(
            f"trim log, {name}",
            "worker: remove what an inbox's log need not keep",
            retention.TRIM_LOG,
            {"inbox": inbox, "log_items": 50, "log_age_s": 30 * 86_400},
            writes=True,
        )
    yield Hot(
        "remove notifications",
        "worker: of the next notifications, those that nobody has any more",
        retention.REMOVE_NOTIFICATIONS,
        {"after": _FIRST_ID, "rules": rows, "age_s": 86_400},
        writes=True,
    )
    yield Hot("holdings", "DELETE a tenant: has it any data?", tenants.HOLDINGS, {"tenant": TENANT})

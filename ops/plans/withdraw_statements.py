"""The hot statements of taking back: cancelling, expiring, and what leaves the inboxes because of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from models.queries import withdraw
from models.states import Cause
from ops.plans.fill import TENANT, TOPIC, WIDE_ID
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNKS = (1_000, 5_000)
_COUNTED = (1_001, 50_000)
_INBOXES = 1_000


def of_withdrawals(keys: Sequence[str]) -> Iterator[Hot]:
    """Yield what is done to take back one notification with many recipients, or as many as `keys` with one each."""
    one = {"tenant": TENANT, "id": WIDE_ID}
    yield Hot("find to cancel", "DELETE: what is to be cancelled", withdraw.FIND_TO_CANCEL, one)
    yield Hot("begin a recall", "DELETE: say so first", withdraw.BEGIN_RECALL_IF_NEW, one, writes=True)
    yield Hot("find a recall", "DELETE repeated: the numbers of the first time", withdraw.FIND_RECALL, one)
    for name, statement in zip(("outbox", "parked"), withdraw.TAKE_OUT, strict=False):  # the third is the first
        yield Hot(f"take out of {name}", "DELETE: nobody gets it any more", statement, one, writes=True)
    now = datetime.now(UTC)
    left = {**one, "topic": TOPIC, "due_at": now, "at": now, "excluded": "", "after": ""}
    for limit in _COUNTED:
        for name, why, count, asked in (
            ("subscribers left", "for whom a broadcast is cancelled", withdraw.count_subscribers_left, left),
            ("inboxes left", "the same of everyone", withdraw.count_inboxes_left, left),
            ("to recall", "who has it, and who has read it", withdraw.count_to_recall, {**left, "after": 0}),
        ):
            yield Hot(f"{limit:,} {name}", f"DELETE: {why}", count(limit), asked)
    counted = {**one, "n": 1, "left": 1, "recalled": 1, "already_read": 1}
    for name, counting in (("some", withdraw.COUNT_CANCELLED), ("all", withdraw.FINISH_COUNT_IF_UNCOUNTED)):
        yield Hot(f"count {name} of a recall", "DELETE: of many", counting, counted, writes=True)
    why = "API, every ten seconds: what was cancelled and not counted"
    yield Hot("recalls left uncounted", why, withdraw.FIND_RECALLS_LEFT_UNCOUNTED, {"older_than_s": 30})
    yield Hot("queue a recall", "DELETE: of many inboxes", withdraw.QUEUE_RECALL, {**one, "priority": 3}, writes=True)
    yield Hot(
        "queue expired", "sweep, every second: what has expired", withdraw.queue_expired(_CHUNKS[-1]), {}, writes=True
    )
    for limit in _CHUNKS:
        wide = [{"ord": 0, "id": WIDE_ID, "cause": Cause.EXPIRED}]
        yield Hot(
            f"next {limit:,} to withdraw, one",
            "worker: which deliveries of one notification leave next",
            withdraw.next_to_withdraw(limit),
            {"asked": orjson.dumps(wide).decode()},
        )
    narrow = [{"ord": nth, "id": key, "cause": Cause.EXPIRED} for nth, key in enumerate(keys)]
    yield Hot(
        f"next to withdraw of {len(keys):,}",
        "worker: which deliveries of many notifications leave next",
        withdraw.next_to_withdraw(_CHUNKS[-1]),
        {"asked": orjson.dumps(narrow).decode()},
    )
    inboxes = list(range(1, _INBOXES + 1))
    yield Hot(
        "lock inboxes",
        "worker: before deliveries leave them",
        withdraw.LOCK_INBOXES,
        {"inboxes": inboxes},
        writes=True,
    )
    taken = [{"inbox_id": inbox, "seq": 1, "cause": Cause.EXPIRED} for inbox in inboxes]
    for number in (1, _INBOXES):
        yield Hot(
            f"withdraw {number:,}",
            "worker: let deliveries leave, and number the changes",
            withdraw.WITHDRAW,
            {"keys": orjson.dumps(taken[:number]).decode()},
            writes=True,
        )
    yield Hot(
        "finish withdrawals",
        "worker: the outbox rows are done",
        withdraw.FINISH_WITHDRAWALS,
        {"positions": list(range(1, 501))},
        writes=True,
    )

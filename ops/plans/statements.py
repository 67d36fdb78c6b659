"""The hot statements of `models/queries`, each with parameters as the product gives them, for the rows of `fill`.

What is not here runs when an operator asks for it, or once per process: lists of keys, what is parked, replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from models.queries import (
    collapse,
    dispatch,
    ingest,
    keys,
    preferences,
    presence,
    receipts,
    recover,
    revocations,
    tenants,
)
from models.tenants import DEFAULT_TENANT
from ops.plans.backend_statements import of_backends
from ops.plans.digest_statements import of_digests
from ops.plans.evidence_statements import of_evidence
from ops.plans.fill import MOST_RECIPIENTS, TENANT, WIDE_ID
from ops.plans.inbox_statements import acting, reading
from ops.plans.retention_statements import of_retention
from ops.plans.room_statements import of_rooms
from ops.plans.statement import Hot
from ops.plans.topic_statements import of_topics
from ops.plans.type_statements import of_types
from ops.plans.withdraw_statements import of_withdrawals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.database import Connection
    from ops.plans.fill import Size

_NEW_ID = "ffffffff-0000-7000-8000-{:012x}"  # past all that are there, as a new version 7 is
_DUE_PRIORITY = 2
_CLAIMS = (1, 50, 500, 5_000)
_BATCH = 500
_ACKS = 256


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows that the statements are about: one of the notifications, and a batch of the outbox."""

    notification_id: str
    keys: tuple[str, ...]
    batch: tuple[tuple[int, str], ...]  # position and notification

    @classmethod
    def of(cls, connection: Connection) -> Sample:
        """Take it from what is there; where nothing is, invent it: a plan can be made before there are rows."""
        known = connection.execute(
            "SELECT id::text AS id, idempotency_key AS key FROM notification "
            "WHERE tenant = %s AND idempotency_key > '' LIMIT 100",
            (TENANT,),
        ).fetchall()
        due = connection.execute(
            "SELECT position, notification_id::text AS id FROM outbox WHERE priority = %s ORDER BY position LIMIT %s",
            (_DUE_PRIORITY, _BATCH),
        ).fetchall()
        return cls(
            known[0]["id"] if known else _NEW_ID.format(0),
            tuple(row["key"] for row in known) or ("key",),
            tuple((row["position"], row["id"]) for row in due) or ((1, _NEW_ID.format(0)),),
        )


def hot_statements(size: Size, sample: Sample) -> list[Hot]:
    """Return all of them, in the order in which a notification travels."""
    return [
        *_accepting(sample),
        *_dispatching(size, sample),
        *reading(size),
        *acting(size),
        *_around(size, sample),
        *of_rooms(size),
        *of_topics(),
        *of_withdrawals([notification_id for _, notification_id in sample.batch]),
        *of_types(),
        *of_digests([notification_id for _, notification_id in sample.batch]),
        *of_backends(sample.notification_id),
        *of_retention(size),
        *of_evidence(sample.notification_id),
    ]


def _accepting(sample: Sample) -> Iterator[Hot]:
    for count in (1, 100):
        yield Hot(
            f"ingest {count}",
            f"POST: write {count} new notification{'s' * (count > 1)} and what is to be dispatched",
            ingest.INSERT_IF_NEW,
            {"rows": _json([_draft(nth, f"new-{nth}") for nth in range(count)])},
            writes=True,
        )
    yield Hot(
        "ingest again 100",
        "POST repeated with the same keys: writes nothing",
        ingest.INSERT_IF_NEW,
        {"rows": _json([_draft(nth, key) for nth, key in enumerate(sample.keys)])},
        writes=True,
    )
    for known in (sample.keys[:1], sample.keys):
        asked = [{"ord": nth, "tenant": TENANT, "idempotency_key": key} for nth, key in enumerate(known)]
        yield Hot(
            f"idempotency look-up {1 if known is not sample.keys else 100}",
            "POST repeated: find what the keys were used for",
            ingest.FIND_BY_IDEMPOTENCY_KEY,
            {"keys": _json(asked)},
        )


def _draft(nth: int, key: str) -> dict[str, Any]:
    return {
        "ord": nth,
        "id": _NEW_ID.format(nth),
        "tenant": TENANT,
        "type": "shop.order.shipped",
        "domain": "shop",
        "priority": 2,
        "title": f"Order {nth}",
        "body": "On its way. " * 8,
        "data": {"nth": nth},
        "audience": {"user": "u_1"},
        "idempotency_key": key,
        "body_hash": "00" * 32,
    }


def _dispatching(size: Size, sample: Sample) -> Iterator[Hot]:
    for limit in _CLAIMS:
        yield Hot(
            f"claim {limit:,}",
            f"worker: lock the first {limit:,} due rows of a priority, and read what they are about",
            dispatch.claim_due(limit),
            {"priority": _DUE_PRIORITY},
            writes=True,
        )
    rows = [
        {
            "tenant": TENANT,
            "user_id": f"u_{1 + nth % size.inboxes}",
            "nth": 1 + nth // size.inboxes,
            "notification_id": notification_id,
            "domain": "shop",
            "type": "shop.order.shipped",
            "silent": False,
            "collapse_key": None,
            "collapsed": 0,
        }
        for nth, (_, notification_id) in enumerate(sample.batch)
    ]
    for name, chosen in (("preferences 1", slice(1)), ("preferences 500", slice(None))):
        asked = [{"tenant": row["tenant"], "user_id": row["user_id"]} for row in rows[chosen]]
        yield Hot(
            name,
            "worker: what the users of a batch do not want",
            preferences.PREFERENCES_OF,
            {"asked": _json(asked), "worded": True},
        )
    for name, chosen in (("deliver 1", slice(1)), ("deliver 500", slice(None))):
        positions = [position for position, _ in sample.batch[chosen]]
        yield Hot(
            name,
            "worker: number the inboxes, write the deliveries, delete what was dispatched",
            dispatch.DELIVER,
            {"rows": _json(rows[chosen]), "priority": _DUE_PRIORITY, "positions": positions},
            writes=True,
        )
    arrives = {"said_at": "2100-01-01T00:00:00Z", "stands_for": 1}
    keys = [{**row, "collapse_key": f"order:{nth}", **arrives} for nth, row in enumerate(rows)]
    yield Hot(
        "lock inboxes of 500",
        "worker: before what is unread is replaced",
        collapse.LOCK_OR_CREATE_INBOXES,
        {"users": _json([{"tenant": TENANT, "user_id": user} for user in {row["user_id"] for row in rows}])},
        writes=True,
    )
    for name, chosen in (("collapse 1", slice(1)), ("collapse 500", slice(None))):
        yield Hot(
            name,
            "worker: take out what is unread of the same key",
            collapse.COLLAPSE,
            {"keys": _json(keys[chosen])},
            writes=True,
        )
    yield Hot(
        "delete orphans",
        "worker: rows whose notification is gone",
        dispatch.DELETE_ORPHANS,
        {"positions": [position for position, _ in sample.batch]},
        writes=True,
    )
    position = {"position": sample.batch[0][0]}
    yield Hot(
        "retry later", "worker: a row that failed", dispatch.RETRY_LATER, {**position, "delay_s": 1.0}, writes=True
    )
    yield Hot("park", "worker: a row that failed for good", dispatch.PARK, {**position, "reason": "no"}, writes=True)


def _around(size: Size, sample: Sample) -> Iterator[Hot]:
    behind = range(1, size.inboxes, 2)[:_ACKS]  # every other one holds everything
    acks = [{"tenant": TENANT, "user_id": f"u_{nth}", "seq": 1_000_000} for nth in behind]
    yield Hot(
        f"receipts {_ACKS}",
        "socket node, every half second: what its clients hold",
        receipts.RECORD_ACKS_IF_AHEAD,
        {"acks": _json(acks)},
        writes=True,
    )
    came = [
        {"tenant": TENANT, "user_id": f"u_{1 + nth}", "locale": "uk", "issued_at": "2100-01-01T00:00:00Z"}
        for nth in range(min(_ACKS, size.inboxes))
    ]
    yield Hot(
        f"remember locales {_ACKS}",
        "every process, every half second: which language its users came with",
        preferences.REMEMBER_LOCALES_IF_NEW,
        {"came": _json(came), "default_tenant": DEFAULT_TENANT},
        writes=True,
    )
    yield Hot("outbox counts", "sweep, every second: what waits, and for how long", recover.OUTBOX_BY_PRIORITY, {})
    yield Hot("backlog", "API, every second: how much waits", recover.due_up_to(50_000), {})
    yield Hot("parked", "sweep, every second: how many are parked", recover.COUNT_PARKED, {})
    for name, wanted in (("one recipient", sample.notification_id), (f"{MOST_RECIPIENTS:,} recipients", WIDE_ID)):
        yield Hot(
            f"notification, {name}",
            "GET a notification: its status, and its counts over all recipients",
            ingest.GET_NOTIFICATION,
            {"tenant": TENANT, "id": wanted},
        )
    yield Hot("events", "GET a notification: what befell it", ingest.GET_EVENTS, {"id": sample.notification_id})
    yield Hot("api key", "every few seconds per key and process: who calls", keys.FIND_KEY_IF_LIVE, {"id": "k_7"})
    yield Hot(
        "revocations since",
        "every process, twice a second: whose tokens are no longer good",
        revocations.REVOCATIONS_SINCE,
        {"since": datetime.now(UTC) - timedelta(seconds=30)},
    )
    yield Hot(
        "revocations of 100",
        "tokens from before the last day",
        revocations.REVOCATIONS_OF,
        {"asked": _json([{"ord": nth, "tenant": TENANT, "user_id": f"u_{nth}"} for nth in range(100)])},
    )
    yield Hot("revoke", "disconnect a user", revocations.REVOKE, {"tenant": TENANT, "user": "u_7"}, writes=True)
    asked = [{"ord": nth, "tenant": TENANT, "user_id": f"u_{1 + nth}"} for nth in range(100)]
    yield Hot(
        "last seen 100",
        "whoever asks for users who are offline",
        presence.LAST_SEEN,
        {"asked": _json(asked)},
    )
    yield Hot(
        "record last seen 100",
        "socket node: users have left",
        presence.RECORD_LAST_SEEN_IF_LATER,
        {"seen": _json([{**each, "last_seen_at": "2100-01-01T00:00:00Z"} for each in asked])},
        writes=True,
    )
    yield Hot("tenant", "every few seconds per tenant and process: its secret", tenants.GET_SECRETS, {"tenant": TENANT})


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()

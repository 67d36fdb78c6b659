"""Stage 1: write notifications and their outbox rows; concurrent requests share one statement and one commit.

`accept` returns only after the commit. Nothing is half written: a request's rows are in one statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import structlog
import uuid_utils

from models import telemetry
from models.batching import Batcher
from models.errors import IdempotencyMismatchError, UnavailableError, ValidationFailedError
from models.frames import dumps
from models.queries import ingest as sql
from models.states import NotificationStatus, Priority

if TYPE_CHECKING:
    from datetime import datetime

    from api.hints import Hints
    from api.resolve import Resolved
    from models.contracts import NotificationIn
    from models.database import Database

log = structlog.get_logger(__name__)

_ROWS_PER_STATEMENT = 1_000
_LANES = 2  # one statement commits while the next is filled


@dataclass(frozen=True, slots=True)
class Draft:
    """One notification as it goes into the statement.

    One with a `refusal` does not: it only finds out whether it was accepted before, under the same key.
    """

    row: dict[str, Any]
    priority: Priority
    refusal: ValidationFailedError | None = None

    @classmethod
    def of(
        cls,
        tenant: str,
        notification: NotificationIn,
        idempotency_key: str | None,
        resolved: Resolved | ValidationFailedError,
    ) -> Draft:
        """Prepare a notification as its type resolved it. Raises a refusal that no earlier request can overrule."""
        priority = notification.priority or Priority.NORMAL
        row = {
            "tenant": tenant,
            "type": notification.type,
            "domain": notification.type.partition(".")[0],
            "priority": priority.rank,
            "title": notification.title,
            "body": notification.body or "",
            "data": notification.data,
            "audience": notification.to.model_dump(exclude_defaults=True),
            "actor": notification.actor.model_dump() if notification.actor else None,
            "action_url": notification.action_url,
            "collapse_key": notification.collapse_key,
            "deliver_at": notification.deliver_at,
            "expires_at": notification.expires_at,
        }
        if idempotency_key is not None:
            # Over what was meant, not over how it was written: white space and key order do not matter. And over what
            # the sender said, not what the type made of it: who asks again gets the answer though the type has changed.
            canonical = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
            row["body_hash"] = hashlib.sha256(canonical).hexdigest()
            row["idempotency_key"] = idempotency_key
        row["id"] = str(uuid_utils.uuid7())
        if isinstance(resolved, ValidationFailedError):
            if idempotency_key is None:
                raise resolved
            return cls(row, priority, resolved)
        row |= {
            "priority": resolved.priority.rank,
            "title": resolved.title,
            "body": resolved.body,
            "expires_at": resolved.expires_at,
            "texts": resolved.texts,
            "mutable": resolved.mutable,
            "critical_overrides": resolved.critical_overrides,
            "digest_every": resolved.digest_every,
            "digest_key": resolved.digest_key,
        }
        return cls(row, resolved.priority)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a draft. `status` is `accepted` or `scheduled`."""

    id: str
    created_at: datetime
    status: NotificationStatus
    replayed: bool = False


Result = Outcome | IdempotencyMismatchError | ValidationFailedError | UnavailableError


class Ingest:
    """Accepts drafts."""

    def __init__(self, database: Database, hints: Hints) -> None:
        self._database = database
        self._hints = hints
        self._accept = Batcher[Sequence[Draft], list[Result]](
            self._write_requests, limit=_ROWS_PER_STATEMENT, lanes=_LANES, weight=len
        )

    async def accept(self, drafts: Sequence[Draft]) -> list[Result]:
        """Commit the drafts of one request. Returns an outcome, or what is wrong, for each.

        Raises `UnavailableError` where Postgres cannot be reached; then nothing of the request was written.
        """
        results = await self._accept(drafts)
        log.debug("accepted", notifications=[result.id for result in results if isinstance(result, Outcome)])
        return results

    async def _write_requests(self, requests: Sequence[Sequence[Draft]]) -> list[list[Result]]:
        drafts = [draft for request in requests for draft in request]
        results = await self._write(drafts)
        due = set()
        for draft, result in zip(drafts, results, strict=True):
            if isinstance(result, Outcome) and not result.replayed:
                telemetry.accepted.labels(str(draft.priority)).inc()
                if result.status is NotificationStatus.ACCEPTED:
                    due.add(draft.priority)
        if due:
            self._hints.want(due)
        remaining = iter(results)
        return [[next(remaining) for _ in request] for request in requests]

    async def _write(self, drafts: Sequence[Draft]) -> list[Result]:
        try:
            return await self._insert(drafts)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(drafts) == 1:
                log.warning("postgres refused a notification", error=str(error.diag.message_primary))
                return [ValidationFailedError("The database cannot store one of these values")]
        # One bad row must not fail its neighbours: halve until it stands alone.
        middle = len(drafts) // 2
        return [*await self._write(drafts[:middle]), *await self._write(drafts[middle:])]

    async def _insert(self, drafts: Sequence[Draft]) -> list[Result]:
        new = [{"ord": nth, **draft.row} for nth, draft in enumerate(drafts) if draft.refusal is None]
        refused = [{"ord": nth, **draft.row} for nth, draft in enumerate(drafts) if draft.refusal is not None]
        written = {
            row["id"]: row["created_at"]
            for row in (await self._database.rows(sql.INSERT_IF_NEW, {"rows": dumps(new).decode()}) if new else ())
        }
        earlier = await self._find_earlier([*(row for row in new if row["id"] not in written), *refused])
        return [
            _outcome(draft, written.get(draft.row["id"]), earlier.get(nth)) or await self._once_more(draft)
            for nth, draft in enumerate(drafts)
        ]

    async def _once_more(self, draft: Draft) -> Result:
        """Write what was not, because of a key that is free by now: who had it was erased in that moment."""
        row = {"ord": 0, **draft.row}
        written = await self._database.rows(sql.INSERT_IF_NEW, {"rows": dumps([row]).decode()})
        earlier = {} if written else await self._find_earlier([row])
        outcome = _outcome(draft, written[0]["created_at"] if written else None, earlier.get(0))
        return outcome or UnavailableError("The key was in use until now; send it again")

    async def _find_earlier(self, rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        if not rows:
            return {}
        keys = [{name: row[name] for name in ("ord", "tenant", "idempotency_key")} for row in rows]
        found = await self._database.rows(sql.FIND_BY_IDEMPOTENCY_KEY, {"keys": dumps(keys).decode()})
        return {row["ord"]: row for row in found}


def _status(deliver_at: datetime | None, created_at: datetime) -> NotificationStatus:
    later = deliver_at is not None and deliver_at > created_at
    return NotificationStatus.SCHEDULED if later else NotificationStatus.ACCEPTED


def _outcome(draft: Draft, written_at: datetime | None, earlier: dict[str, Any] | None) -> Result | None:
    """Return what became of a draft; None where it was not written, and nobody has its key."""
    if written_at is not None:
        return _accepted(draft, written_at)
    if earlier is not None:
        return _replayed(draft, earlier)
    return draft.refusal


def _accepted(draft: Draft, created_at: datetime) -> Outcome:
    return Outcome(draft.row["id"], created_at, _status(draft.row["deliver_at"], created_at))


def _replayed(draft: Draft, earlier: dict[str, Any]) -> Result:
    if earlier["body_hash"] != draft.row["body_hash"]:
        detail = "This idempotency key was used before with another body; use a new key for a new notification"
        return IdempotencyMismatchError(detail)
    status = _status(earlier["deliver_at"], earlier["created_at"])
    return Outcome(earlier["id"], earlier["created_at"], status, replayed=True)

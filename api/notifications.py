"""`/v1/notifications`: what backends call."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response

from api.auth import Backend, NeedsKey
from api.bodies import JSON, NDJSON, idempotency_key, json_body, media_type, parse_json, read, validate
from api.ingest import Draft, Outcome
from api.openapi import body, header, problems
from api.resolve import Resolved, resolve
from api.resources import Held
from api.timeline import timeline_for_all
from models.contracts import Accepted, BulkAnswer, BulkIn, BulkItem, CancelOut, NotificationIn, NotificationOut
from models.errors import (
    BellhopError,
    FieldError,
    InvalidJsonError,
    NotFoundError,
    UnavailableError,
    ValidationFailedError,
)
from models.fields import MAX_BULK_BYTES, MAX_BULK_ITEMS
from models.frames import dumps
from models.queries import ingest as sql
from models.queries import pushes as push_sql
from models.states import NotificationStatus, Priority, Scope
from models.told import Row, told_of

if TYPE_CHECKING:
    from collections.abc import Sequence

router = APIRouter(prefix="/v1/notifications", tags=["notifications"])

_TURN_S = 0.005  # how long a bulk keeps others waiting

Writer = Annotated[Backend, Depends(NeedsKey(Scope.NOTIFICATIONS_WRITE))]
Reader = Annotated[Backend, Depends(NeedsKey(Scope.NOTIFICATIONS_READ))]
NotificationId = Annotated[str, Path(description="The `id` that sending it was answered with")]


@router.post(
    "",
    status_code=202,
    response_model=Accepted,
    summary="Send one notification",
    openapi_extra=body(NotificationIn) | header("Idempotency-Key", "The same key and body make one notification"),
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
)
async def send(request: Request, held: Held, backend: Writer) -> Response:
    """202 means committed to disk. `status` is `accepted`, or `scheduled` where `deliver_at` is later."""
    headers = await held.admission.admit(backend, 1)
    notification = await json_body(request, NotificationIn)
    draft = await _draft(held, backend, notification, idempotency_key(request))
    held.admission.require_room(draft.priority)
    (outcome,) = await held.ingest.accept([draft])
    if isinstance(outcome, BellhopError):
        raise outcome
    answer = {"id": outcome.id, "status": outcome.status, "created_at": outcome.created_at}
    headers |= {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    return Response(dumps(answer), 202, headers, JSON)


async def _draft(held: Held, backend: Backend, notification: NotificationIn, key: str | None) -> Draft:
    backend.require_domain(notification.type.partition(".")[0])
    kind = await held.catalogue.of(backend.tenant, notification.type)
    resolved: Resolved | ValidationFailedError
    try:
        required = held.catalogue.requires_types(backend.tenant)
        resolved = resolve(notification, kind, datetime.now(UTC), require_type=required)
    except ValidationFailedError as error:
        resolved = error
    return Draft.of(backend.tenant, notification, key, resolved)


@router.post(
    "/bulk",
    status_code=202,
    response_model=BulkAnswer,
    summary="Send up to 1,000 notifications",
    openapi_extra=body(BulkIn, ndjson=BulkItem),
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
)
async def send_bulk(request: Request, held: Held, backend: Writer) -> Response:
    """One bad item never stops the others. As `application/x-ndjson`, each line is one notification."""
    kind = media_type(request, [JSON, NDJSON])
    raw = await read(request, MAX_BULK_BYTES)
    items = _lines(raw) if kind == NDJSON else _listed(raw)
    if not 1 <= len(items) <= MAX_BULK_ITEMS:
        wrong = FieldError(
            "/notifications", "bulk_size", f"Send 1 to {MAX_BULK_ITEMS} notifications at once; there are {len(items)}"
        )
        raise ValidationFailedError(errors=(wrong,))
    headers = await held.admission.admit(backend, len(items))
    drafts: dict[int, Draft] = {}
    results: list[dict[str, Any]] = [{}] * len(items)
    turn_ends = time.monotonic() + _TURN_S
    for index, item in enumerate(items):
        if time.monotonic() > turn_ends:  # what a type costs is bounded for one notification, and a bulk has a thousand
            await asyncio.sleep(0)
            turn_ends = time.monotonic() + _TURN_S
        try:
            bulk_item = validate(BulkItem, parse_json(item) if isinstance(item, bytes) else item)
            draft = await _draft(held, backend, bulk_item, bulk_item.idempotency_key)
            held.admission.require_room(draft.priority)
            drafts[index] = draft
        except UnavailableError:
            raise  # the catalogue cannot be read: that is nothing that is wrong with this item
        except BellhopError as error:
            results[index] = _rejected(index, error)
    outcomes = await held.ingest.accept(list(drafts.values())) if drafts else []
    for index, outcome in zip(drafts, outcomes, strict=True):
        if isinstance(outcome, Outcome):
            status = "replayed" if outcome.replayed else outcome.status
            results[index] = {"index": index, "status": status, "id": outcome.id}
        else:
            results[index] = _rejected(index, outcome)
    rejected = sum(result["status"] == "rejected" for result in results)
    answer = {"accepted": len(results) - rejected, "rejected": rejected, "results": results}
    return Response(dumps(answer), 202, headers, JSON)


def _lines(raw: bytes) -> list[bytes]:
    return [line for line in raw.splitlines() if line.strip()]


def _listed(raw: bytes) -> Sequence[Any]:
    value = parse_json(raw)
    if not isinstance(value, dict) or set(value) != {"notifications"} or not isinstance(value["notifications"], list):
        wrong = FieldError("", "bulk_shape", 'The body must be {"notifications": [ … ]} and nothing else')
        raise ValidationFailedError(errors=(wrong,))
    return value["notifications"]


def _rejected(index: int, error: BellhopError) -> dict[str, Any]:
    problem: dict[str, Any] = {"code": error.code, "detail": error.detail}
    if error.errors:
        problem["errors"] = [wrong.as_dict() for wrong in error.errors]
    elif isinstance(error, InvalidJsonError):
        problem["detail"] = error.detail.replace("The body", "The line")
    return {"index": index, "status": "rejected", "error": problem}


@router.get(
    "/{notification_id}",
    response_model=NotificationOut,
    summary="Look at a notification",
    responses=problems(401, 403, 404, 503),
)
async def look(notification_id: NotificationId, held: Held, backend: Reader) -> Response:
    """Its content, its status, how many users it reached, and a timeline that says why someone did not get it.

    A key that is for some domains sees those; of another, it is answered 403, here as where one is cancelled, explained
    or listed.
    """
    key = _key(notification_id)
    rows = await held.database.rows(sql.GET_NOTIFICATION, {"tenant": backend.tenant, "id": key})
    if not rows:
        raise _no_such(notification_id)
    backend.require_domain(rows[0]["domain"])
    events = await held.database.rows(sql.GET_EVENTS, {"id": key})
    told = await _told(held, rows[0])
    return Response(dumps(_describe(rows[0], events, told)), media_type=JSON)


async def _told(held: Held, row: dict[str, Any]) -> list[Row]:
    """Return which nodes were told of it: those of a broadcast summed up, of what names its users from its batch."""
    if row["started_at"] is not None:
        return await held.database.rows(push_sql.PUSHES_OF_BROADCAST, {"id": row["id"]})
    if not row["recipients"]:
        return []
    asked = {"dispatched_at": row["first_at"], "priority": row["priority"]}
    batch = await held.database.rows(push_sql.PUSHES_OF_BATCH, asked)
    deliveries = await held.database.rows(push_sql.DELIVERIES_TO_NAMED, {"id": row["id"]})
    return told_of({each["inbox_id"]: each["seq"] for each in deliveries}, batch)


@router.delete(
    "/{notification_id}",
    response_model=CancelOut,
    summary="Cancel or recall a notification",
    responses=problems(401, 403, 404, 503),
)
async def cancel(notification_id: NotificationId, held: Held, backend: Writer) -> Response:
    """Whoever has not got it never will, also half-way through a broadcast; whoever has not read it loses it again.

    Recalled items vanish live. Those that were read stay. Doing it twice answers the same. The numbers are those of the
    moment; what is recalled from more than 1,000 inboxes leaves them soon after the answer. Of millions, counting takes
    some seconds: after a 503, or no answer, call it again.
    """
    done = await held.cancellations.cancel(backend, _key(notification_id))
    if done is None:
        raise _no_such(notification_id)
    return Response(dumps({"status": NotificationStatus.CANCELLED, **asdict(done)}), media_type=JSON)


def _key(notification_id: str) -> str:
    """Return an id as Postgres takes it. Raises `NotFoundError` where it is none."""
    try:
        return str(UUID(notification_id))
    except ValueError:
        raise _no_such(notification_id) from None


def _no_such(notification_id: str) -> NotFoundError:
    return NotFoundError(f"There is no notification {notification_id[:64]!r} in this tenant")


def _describe(row: dict[str, Any], events: Sequence[dict[str, Any]], told: Sequence[Row]) -> dict[str, Any]:
    copied = (
        "id",
        "type",
        "domain",
        "title",
        "body",
        "texts",
        "mutable",
        "critical_overrides",
        "data",
        "action_url",
        "actor",
        "collapse_key",
    )
    return {
        **{name: row[name] for name in copied},
        "to": row["audience"],
        "priority": Priority.of_rank(row["priority"]),
        "deliver_at": row["deliver_at"],
        "expires_at": row["expires_at"],
        "created_at": row["created_at"],
        "status": _status(row, events),
        "counts": {name: row[name] for name in ("recipients", "suppressed", "acked", "seen", "read")},
        "timeline": timeline_for_all(row, events, told),
    }


def _status(row: dict[str, Any], events: Sequence[dict[str, Any]]) -> NotificationStatus:
    if any(event["event"] == "cancelled" for event in events):
        return NotificationStatus.CANCELLED
    if row["due_at"] is not None:
        if row["deliver_at"] and row["due_at"] > row["created_at"] and not row["attempts"]:
            return NotificationStatus.SCHEDULED
        is_begun = row["attempts"] or row["started_at"] is not None
        return NotificationStatus.DISPATCHING if is_begun else NotificationStatus.ACCEPTED
    if row["parked_reason"] is not None:
        return NotificationStatus.DISPATCHING
    if any(event["event"] in {"expired", "withdrawn"} for event in events):
        return NotificationStatus.EXPIRED
    return NotificationStatus.DISPATCHED

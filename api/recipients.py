"""`/v1/users/{user}/inbox` and `/explain`: what a backend sees of one recipient. It changes nothing.

A key that is for some domains sees those, and is told of nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api.bodies import JSON
from api.inbox import answer_list
from api.notifications import Reader
from api.openapi import header, problems
from api.resources import Held
from api.users import UserName
from models.contracts import ExplainOut, ExplainQuery, InboxPage, InboxQuery
from models.errors import NotFoundError
from models.explanation import explain, timeline
from models.frames import dumps
from models.queries import explain as sql
from models.queries import ingest as ingest_sql
from models.queries import pushes as push_sql
from models.told import Row, told_of

router = APIRouter(prefix="/v1/users", tags=["users"])


@router.get(
    "/{user}/inbox",
    response_model=InboxPage,
    summary="List a user's deliveries, newest first",
    openapi_extra=header("If-None-Match", "The ETag of an earlier answer; 304 where the inbox has not changed"),
    responses=problems(401, 403, 422, 503) | {304: {"description": "The inbox has not changed"}},
)
async def list_inbox(
    user: UserName, query: Annotated[InboxQuery, Query()], request: Request, held: Held, backend: Reader
) -> Response:
    """As the user lists them. A key that is for some domains sees, and counts, those."""
    if query.domain is not None:
        backend.require_domain(query.domain)
    if query.type is not None:
        backend.require_domain(query.type.partition(".")[0])
    return await answer_list(held, request, (backend.tenant, user), query, backend.domains)


@router.get(
    "/{user}/explain",
    response_model=ExplainOut,
    summary="Explain why a user has a notification or has it not",
    responses=problems(401, 403, 404, 422, 503),
)
async def explained(user: UserName, query: Annotated[ExplainQuery, Query()], held: Held, backend: Reader) -> Response:
    """`verdict` is a sentence, `reason` the same for programs, and `timeline` what happened on the way to them."""
    missing = NotFoundError(f"There is no notification {query.notification!r} in this tenant")
    try:
        key = str(UUID(query.notification))
    except ValueError:
        raise missing from None
    rows = await held.database.rows(sql.EXPLAIN, {"tenant": backend.tenant, "user": user, "id": key})
    if not rows:
        raise missing
    facts = rows[0]
    backend.require_domain(facts["domain"])
    events = await held.database.rows(ingest_sql.GET_EVENTS, {"id": key})
    told = await _told(held, facts)
    verdict = explain(user, facts, events, told)
    answer = {
        "user": user,
        "notification": key,
        "reason": verdict.reason,
        "verdict": verdict.sentence,
        "seq": facts["seq"],
        "timeline": timeline(facts, events, told),
    }
    return Response(dumps(answer), media_type=JSON)


async def _told(held: Held, facts: dict[str, Any]) -> list[Row]:
    """Return which nodes were told of a delivery, where there is one and that was noted."""
    if facts["seq"] is None:
        return []
    asked = {"dispatched_at": facts["delivered_at"], "priority": facts["priority"]}
    batch = await held.database.rows(push_sql.PUSHES_OF_BATCH, asked)
    return told_of({facts["inbox_id"]: facts["seq"]}, batch)

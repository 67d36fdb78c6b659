"""`GET /v1/notifications`: a tenant's notifications, as its backends look through them."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from api.bodies import JSON
from api.notifications import Reader
from api.openapi import problems
from api.resources import Held
from models import notification_list
from models.contracts import NotificationsPage, NotificationsQuery
from models.frames import dumps
from models.states import Priority

router = APIRouter(prefix="/v1/notifications", tags=["notifications"])


@router.get(
    "",
    response_model=NotificationsPage,
    summary="List notifications, newest first",
    responses=problems(401, 403, 422, 503),
)
async def listed(query: Annotated[NotificationsQuery, Query()], held: Held, backend: Reader) -> Response:
    """Go on with `next`, the last answer's, and the same filters, until it is null.

    A page looks at 100,000 notifications at most: by a filter that few pass it may hold fewer than `limit`, even none,
    and there are more all the same. A key that is for some domains sees those.
    """
    if query.domain is not None:
        backend.require_domain(query.domain)
    if query.type is not None:
        backend.require_domain(query.type.partition(".")[0])
    rows, place = await notification_list.page(held.database, backend.tenant, query, backend.domains)
    answer = {"notifications": [_shown(row) for row in rows], "next": place.written() if place else None}
    return Response(dumps(answer), media_type=JSON)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name != "audience"}
    return {
        **shown,
        "to": row["audience"],
        "priority": Priority.of_rank(row["priority"]),
        "data": orjson.Fragment(row["data"]),
        "actor": orjson.Fragment(row["actor"]) if row["actor"] else None,
    }

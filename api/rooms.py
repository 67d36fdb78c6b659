"""`/v1/rooms`: what backends say of live entities, and what has been said lately."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.auth import Backend, NeedsKey
from api.bodies import JSON, idempotency_key, json_body
from api.openapi import body, header, problems
from api.resources import Held
from api.room_events import Draft
from models.contracts import LogQuery, RoomEventIn, RoomEventOut, RoomLogPage
from models.fields import Name
from models.frames import dumps
from models.states import Scope

router = APIRouter(prefix="/v1/rooms", tags=["rooms"])

Publisher = Annotated[Backend, Depends(NeedsKey(Scope.ROOMS_PUBLISH))]
Room = Annotated[Name, Path(description="Such as shop:order:42; what stands before the first : is the domain")]


def _require_domain(backend: Backend, room: str) -> None:
    backend.require_domain(room.partition(":")[0])


@router.post(
    "/{room}/events",
    status_code=202,
    response_model=RoomEventOut,
    summary="Say what happened to a room's entity",
    openapi_extra=body(RoomEventIn)
    | header(
        "Idempotency-Key",
        "The same key and body make one event for as long as it is kept, however busy the room for ten minutes",
    ),
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
)
async def publish(room: Room, request: Request, held: Held, backend: Publisher) -> Response:
    """202 means committed to disk, under the number `seq` of the room. Members of the room get it at once."""
    _require_domain(backend, room)
    headers = await held.admission.admit(backend, 1)
    event = await json_body(request, RoomEventIn)
    published = await held.room_events.publish(Draft.of(backend.tenant, room, event, idempotency_key(request)))
    headers |= {"Idempotent-Replayed": "true"} if published.replayed else {}
    return Response(dumps({"room": room, "seq": published.seq}), 202, headers, JSON)


@router.get(
    "/{room}/log",
    response_model=RoomLogPage,
    summary="Read a room's numbered log",
    responses=problems(401, 403, 422, 503),
)
async def read_log(query: Annotated[LogQuery, Query()], room: Room, held: Held, backend: Publisher) -> Response:
    """`reset: true`: what came after `since` is no longer all kept, or `since` is beyond the head."""
    _require_domain(backend, room)
    page = await held.rooms.page(backend.tenant, room, query.since, query.limit)
    return Response(page.as_json(), media_type=JSON)

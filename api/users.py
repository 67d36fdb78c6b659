"""`/v1/users` and `/v1/presence`: what backends do about users, and whether they are there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from api.auth import Backend, NeedsKey
from api.bodies import JSON
from api.openapi import problems
from api.resources import Held
from models.contracts import DisconnectOut, EraseOut, PresenceList, PresenceQuery
from models.erasure import erase
from models.fields import Name
from models.frames import dumps
from models.states import Scope

router = APIRouter(prefix="/v1")

PresenceReader = Annotated[Backend, Depends(NeedsKey(Scope.PRESENCE_READ))]
UserWriter = Annotated[Backend, Depends(NeedsKey(Scope.USERS_WRITE))]
UserName = Annotated[Name, Path(description="The user's id")]


@router.post(
    "/users/{user}/disconnect",
    tags=["users"],
    response_model=DisconnectOut,
    summary="End a user's sockets and refuse the tokens issued until now",
    responses=problems(401, 403, 422, 503),
)
async def disconnect(user: UserName, held: Held, backend: UserWriter) -> Response:
    """It holds on every node and every API process within a second, and after any restart. A newer token lets in."""
    revoked_at = await held.tokens.revocations.revoke(backend.tenant, user)
    return Response(dumps({"user": user, "revoked_at": revoked_at}), media_type=JSON)


@router.delete(
    "/users/{user}",
    tags=["users"],
    response_model=EraseOut,
    summary="Erase a user",
    responses=problems(401, 403, 422, 503),
)
async def remove(user: UserName, held: Held, backend: UserWriter) -> Response:
    """Inbox, preferences, subscriptions, and the notifications that name nobody else; their sockets are ended.

    All that is kept is the user's id with the time, so that tokens from before stay refused. What was sent to others
    stays as it was said, even where it speaks of the user. What is accepted for the same name after it began is for
    whoever has it next. After a 503, or no answer, call it again: it goes on.
    """
    counts, revoked_at = await erase(held.database, held.tokens.revocations, backend.tenant, user)
    return Response(dumps({"user": user, "revoked_at": revoked_at, "erased": counts}), media_type=JSON)


@router.get(
    "/presence",
    tags=["presence"],
    response_model=PresenceList,
    summary="Ask whether users are online",
    responses=problems(401, 403, 422, 503),
)
async def look(query: Annotated[PresenceQuery, Query()], held: Held, backend: PresenceReader) -> Response:
    """Over all devices and nodes. Up to 100 users, separated by commas."""
    users = query.names()
    seen = await held.presence.look([(backend.tenant, user) for user in users])
    answer = {user: each.as_dict() for user, each in zip(users, seen, strict=True)}
    return Response(dumps({"users": answer}), media_type=JSON)

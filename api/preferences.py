"""`/v1/preferences`, and the same for backends: what users do not want to be told, or not to be rung up for."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request, Response

from api.auth import Backend, NeedsKey, User
from api.bodies import JSON, json_body
from api.openapi import body, problems
from api.resources import Held
from api.users import UserName
from models.contracts import PreferencesIn
from models.frames import dumps
from models.queries import preferences as sql
from models.states import Scope

router = APIRouter(prefix="/v1", tags=["preferences"])

UserWriter = Annotated[Backend, Depends(NeedsKey(Scope.USERS_WRITE))]


@router.get(
    "/preferences", response_model=PreferencesIn, summary="Read one's preferences", responses=problems(401, 503)
)
async def read_own(held: Held, user: User) -> Response:
    """Those of somebody who has never set any mute nothing and have no quiet hours."""
    return await _read(held, user.tenant, user.user)


@router.put(
    "/preferences",
    response_model=PreferencesIn,
    summary="Set one's preferences",
    openapi_extra=body(PreferencesIn),
    responses=problems(400, 401, 413, 415, 422, 503),
)
async def write_own(request: Request, held: Held, user: User) -> Response:
    """Replaces them all. They hold for what is dispatched after the answer; what has arrived stays as it is."""
    return await _write(request, held, user.tenant, user.user)


@router.get(
    "/users/{user}/preferences",
    response_model=PreferencesIn,
    summary="Read a user's preferences",
    responses=problems(401, 403, 422, 503),
)
async def read(user: UserName, held: Held, backend: UserWriter) -> Response:
    """As the user reads them."""
    return await _read(held, backend.tenant, user)


@router.put(
    "/users/{user}/preferences",
    response_model=PreferencesIn,
    summary="Set a user's preferences",
    openapi_extra=body(PreferencesIn),
    responses=problems(400, 401, 403, 413, 415, 422, 503),
)
async def write(user: UserName, request: Request, held: Held, backend: UserWriter) -> Response:
    """As the user sets them."""
    return await _write(request, held, backend.tenant, user)


async def _read(held: Held, tenant: str, user: str) -> Response:
    asked = dumps([{"tenant": tenant, "user_id": user}]).decode()
    rows = await held.database.rows(sql.PREFERENCES_OF, {"asked": asked, "worded": False})
    found = orjson.loads(rows[0]["body"]) if rows else PreferencesIn().model_dump()
    return Response(dumps(found), media_type=JSON)


async def _write(request: Request, held: Held, tenant: str, user: str) -> Response:
    whole = dumps((await json_body(request, PreferencesIn)).model_dump())
    await held.database.rows(sql.SET_PREFERENCES, {"tenant": tenant, "user": user, "body": whole.decode()})
    return Response(whole, media_type=JSON)

"""`/v1/users`: what backends do about a user."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from api.auth import Backend, NeedsKey
from api.bodies import JSON
from api.openapi import problems
from api.resources import Held
from models.contracts import DisconnectOut
from models.fields import Name
from models.frames import dumps
from models.states import Scope

router = APIRouter(prefix="/v1/users", tags=["users"])

UserWriter = Annotated[Backend, Depends(NeedsKey(Scope.USERS_WRITE))]
UserName = Annotated[Name, Path(description="The user's id")]


@router.post(
    "/{user}/disconnect",
    response_model=DisconnectOut,
    summary="End a user's sockets and refuse the tokens issued until now",
    responses=problems(401, 403, 422, 503),
)
async def disconnect(user: UserName, held: Held, backend: UserWriter) -> Response:
    """It holds on every node and every API process within a second, and after any restart. A newer token lets in."""
    revoked_at = await held.tokens.revocations.revoke(backend.tenant, user)
    return Response(dumps({"user": user, "revoked_at": revoked_at}), media_type=JSON)

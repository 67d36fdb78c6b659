"""`/v1/users/{user}/digests`: what waits for a user to arrive as one, what it would become, and letting it arrive now.

A key that is for some domains sees, and closes, those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from api.bodies import JSON
from api.notifications import Reader, Writer
from api.openapi import problems
from api.resources import Held
from api.users import UserName
from models import telemetry
from models.contracts import ClosedDigests, OpenDigests
from models.frames import dumps
from models.states import Priority

if TYPE_CHECKING:
    from models.digests import Composed

router = APIRouter(prefix="/v1/users", tags=["users"])

_SHOWN = ("title", "body", "data", "action_url", "actor")


@router.get(
    "/{user}/digests",
    response_model=OpenDigests,
    summary="Look at what waits in a user's digests",
    responses=problems(401, 403, 422, 503),
)
async def look(user: UserName, held: Held, backend: Reader) -> Response:
    """Up to 100 open ones, by type and key. `preview` is what one would arrive as if it closed now; nothing changes."""
    found, more = await held.digests.look(backend.tenant, user, backend.domains)
    answer = {"user": user, "digests": [_open(each) for each in found], "more": more}
    return Response(dumps(answer), media_type=JSON)


@router.post(
    "/{user}/digests/close",
    response_model=ClosedDigests,
    summary="Let a user's digests arrive now",
    responses=problems(401, 403, 422, 503),
)
async def close(user: UserName, held: Held, backend: Writer) -> Response:
    """Up to 100, each as a notification of its own; what comes later opens another. With none open, nothing is done."""
    closed, more = await held.digests.close(backend.tenant, user, backend.domains)
    telemetry.digests_closed.inc(len(closed))
    held.hints.want({each.priority for each in closed if each.priority is not None})
    answer = {"user": user, "closed": [_closed(each) for each in closed], "more": more}
    return Response(dumps(answer), media_type=JSON)


def _open(composed: Composed) -> dict[str, Any]:
    would_be, digest = composed.notification, composed.digest
    preview = None
    if would_be is not None:
        preview = {"priority": Priority.of_rank(would_be["priority"]), **{name: would_be[name] for name in _SHOWN}}
    return {
        **{name: digest[name] for name in ("type", "key", "opened_at", "closes_at")},
        "count": composed.count,
        "preview": preview,
    }


def _closed(composed: Composed) -> dict[str, Any]:
    return {
        **{name: composed.digest[name] for name in ("type", "key", "opened_at")},
        "count": composed.count,
        "notification": composed.notification["id"] if composed.notification else None,
    }

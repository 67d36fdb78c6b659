"""`/v1/topics`: who is told what is sent to a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.auth import Backend, NeedsKey
from api.bodies import JSON, NDJSON, json_body, lines, media_type, parse_json, validate
from api.openapi import body, problems
from api.resources import Held
from models.contracts import Subscriber, Subscribers, SubscribersOut, SubscribersPage, SubscribersQuery
from models.errors import BellhopError
from models.fields import Name
from models.frames import dumps
from models.queries import topics as sql
from models.states import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

router = APIRouter(prefix="/v1/topics", tags=["topics"])

Writer = Annotated[Backend, Depends(NeedsKey(Scope.TOPICS_WRITE))]
Topic = Annotated[Name, Path(description="Such as blog:post:7; what stands before the first : is the domain")]

_AT_ONCE = 5_000  # lines of an import in one statement, which is one commit
_MOST_REPORTED = 50


def _require_domain(backend: Backend, topic: str) -> None:
    backend.require_domain(topic.partition(":")[0])


@router.put(
    "/{topic}/subscribers",
    response_model=SubscribersOut,
    summary="Subscribe users",
    openapi_extra=body(Subscribers, ndjson=Subscriber),
    responses=problems(400, 401, 403, 413, 415, 422, 503),
)
async def subscribe(topic: Topic, request: Request, held: Held, backend: Writer) -> Response:
    """Up to 1,000 at once; who is subscribed already stays so. What becomes due after the answer is for them, too.

    As `application/x-ndjson`, each line is `{"user": "u_1"}`, and there may be millions. They are committed bit by bit:
    an import that breaks off can be sent again. A line that is wrong stops no other.
    """
    _require_domain(backend, topic)
    if media_type(request, [JSON, NDJSON]) == NDJSON:
        answer = await _Import(held, backend.tenant, topic).read(request)
    else:
        wanted = await json_body(request, Subscribers)
        answer = {"changed": await _subscribe(held, backend.tenant, topic, wanted.users)}
    return Response(dumps({"topic": topic, "rejected": 0, "errors": [], **answer}), media_type=JSON)


@router.post(
    "/{topic}/subscribers/remove",
    response_model=SubscribersOut,
    summary="Unsubscribe users",
    openapi_extra=body(Subscribers),
    responses=problems(400, 401, 403, 413, 415, 422, 503),
)
async def unsubscribe(topic: Topic, request: Request, held: Held, backend: Writer) -> Response:
    """Up to 1,000 at once. A broadcast that is under way leaves out those whose turn has not come."""
    _require_domain(backend, topic)
    wanted = await json_body(request, Subscribers)
    asked = {"tenant": backend.tenant, "topic": topic, "users": wanted.users}
    (row,) = await held.database.rows(sql.UNSUBSCRIBE, asked)
    return Response(dumps({"topic": topic, "changed": row["n"], "rejected": 0, "errors": []}), media_type=JSON)


@router.get(
    "/{topic}/subscribers",
    response_model=SubscribersPage,
    summary="List a topic's subscribers",
    responses=problems(401, 403, 422, 503),
)
async def listed(query: Annotated[SubscribersQuery, Query()], topic: Topic, held: Held, backend: Writer) -> Response:
    """In the order of their names, up to 1,000 on a page. A topic that nobody is subscribed to is empty."""
    _require_domain(backend, topic)
    asked = {"tenant": backend.tenant, "topic": topic, "after": query.after, "limit": query.limit + 1}
    users = [row["user_id"] for row in await held.database.rows(sql.SUBSCRIBERS_AFTER, asked)]
    page = users[: query.limit]
    more = len(users) > len(page)
    return Response(dumps({"topic": topic, "users": page, "next_after": page[-1] if more else None}), media_type=JSON)


async def _subscribe(held: Held, tenant: str, topic: str, users: Sequence[str]) -> int:
    asked = {"tenant": tenant, "topic": topic, "users": list(users)}
    (row,) = await held.database.rows(sql.SUBSCRIBE_IF_NEW, asked)
    changed: int = row["n"]
    return changed


class _Import:
    """Reads subscribers line by line."""

    def __init__(self, held: Held, tenant: str, topic: str) -> None:
        self._held = held
        self._tenant = tenant
        self._topic = topic
        self._users: dict[str, None] = {}
        self._changed = 0
        self._rejected = 0
        self._errors: list[dict[str, Any]] = []

    async def read(self, request: Request) -> dict[str, Any]:
        """Subscribe whom the body names, and return what is to be answered."""
        async for number, line in lines(request):
            try:
                self._users[validate(Subscriber, parse_json(line)).user] = None
            except BellhopError as error:
                self._rejected += 1
                if self._rejected <= _MOST_REPORTED:
                    self._errors.append({"line": number, "detail": error.detail.replace("The body", "The line")})
            if len(self._users) >= _AT_ONCE:
                await self._write()
        await self._write()
        return {"changed": self._changed, "rejected": self._rejected, "errors": self._errors}

    async def _write(self) -> None:
        if self._users:
            self._changed += await _subscribe(self._held, self._tenant, self._topic, list(self._users))
            self._users.clear()

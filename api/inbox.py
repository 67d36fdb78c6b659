"""`/v1/inbox`: what a user reads and does, authenticated by a user token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api.answers import Answer
from api.auth import User
from api.bodies import JSON, json_body
from api.openapi import body, header, problems
from api.resources import Held
from models import frames, telemetry
from models.contracts import (
    ActionIn,
    ActionOut,
    DomainCounts,
    InboxPage,
    InboxQuery,
    Item,
    ItemPatch,
    LogPage,
    LogQuery,
)
from models.errors import NotFoundError
from models.fields import MAX_SEQ
from models.states import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(prefix="/v1/inbox", tags=["inbox"])

Number = Annotated[int, Path(ge=1, le=MAX_SEQ, description="The `seq` of the item")]


@router.get(
    "",
    response_model=InboxPage,
    summary="List deliveries, newest first",
    openapi_extra=header("If-None-Match", "The ETag of an earlier answer; 304 where the inbox has not changed"),
    responses=problems(401, 422, 503) | {304: {"description": "The inbox has not changed"}},
)
async def list_inbox(query: Annotated[InboxQuery, Query()], request: Request, held: Held, user: User) -> Response:
    """Page backwards with `before`, the last answer's `next_before`."""
    return await answer_list(held, request, (user.tenant, user.user), query)


async def answer_list(
    held: Held, request: Request, whose: tuple[str, str], query: InboxQuery, domains: frozenset[str] = frozenset()
) -> Response:
    """Answer with a page of the inbox of a tenant's user; with `domains`, as if there were no others."""
    known = request.headers.get("if-none-match", "")
    question = (*whose, tuple(query), domains)
    kept = held.answers.get(question)
    if known or kept:
        head = await held.inbox.head(whose)
        if _etag(head.head) in [part.strip().removeprefix("W/") for part in known.split(",")]:
            return Response(status_code=304, headers=_cached(head.head))
        if kept and kept.holds_at(head):
            telemetry.answers.labels("kept").inc()
            return Response(kept.body, headers=_cached(head.head), media_type=JSON)
    rows = await held.inbox.list_page(*whose, query, domains)
    box: Mapping[str, Any] = rows[0] if rows else {"inbox": 0, "head": 0, "unread": 0, "unseen": 0}
    found = [row for row in rows if row["seq"] is not None]
    items, more = found[: query.limit], len(found) > query.limit
    answer = b'{"items":[%b],"next_before":%b,"counts":%b,"seq":%d}' % (
        b",".join(_item(row) for row in items),
        b"%d" % items[-1]["seq"] if more else b"null",
        frames.counts(box["unread"], box["unseen"]),
        box["head"],
    )
    if query.before is None:  # who pages back seldom asks for the same page again
        held.answers.keep(question, Answer(box["inbox"], box["head"], answer))
    return Response(answer, headers=_cached(box["head"]), media_type=JSON)


def _cached(head: int) -> dict[str, str]:
    """Let a browser keep the answer, but ask before it uses it, and never for another user."""
    return {"ETag": _etag(head), "Cache-Control": "private, no-cache", "Vary": "Authorization"}


def _etag(head: int) -> str:
    return f'"{head}"'


def _item(row: Mapping[str, Any]) -> bytes:
    return frames.item(row["seq"], frames.delivered_tail(row, fresh=False))


@router.get("/counts", response_model=DomainCounts, summary="Count what waits", responses=problems(401, 503))
async def count(held: Held, user: User) -> Response:
    """Archived and deleted deliveries do not count; domains with nothing waiting are left out."""
    question = (user.tenant, user.user)
    kept = held.answers.get(question)
    if kept and kept.holds_at(await held.inbox.head(question)):
        telemetry.answers.labels("kept").inc()
        return Response(kept.body, media_type=JSON)
    rows = await held.inbox.counts_by_domain(user.tenant, user.user)
    domains = {row["domain"]: {"unread": row["unread"], "unseen": row["unseen"]} for row in rows if row["domain"]}
    totals = {name: sum(counts[name] for counts in domains.values()) for name in ("unread", "unseen")}
    answer = frames.dumps({**totals, "domains": domains})
    inbox, number = (rows[0]["inbox"], rows[0]["head"]) if rows else (0, 0)
    held.answers.keep(question, Answer(inbox, number, answer))
    return Response(answer, media_type=JSON)


@router.get("/log", response_model=LogPage, summary="Read the numbered log", responses=problems(401, 422, 503))
async def read_log(query: Annotated[LogQuery, Query()], held: Held, user: User) -> Response:
    """Apply the entries in order to the state at `since`; `reset: true` means fetch the list again."""
    page = await held.inbox.page(user.tenant, user.user, query.since, query.limit)
    return Response(page.as_json(), media_type=JSON)


@router.patch(
    "/{seq}",
    response_model=Item,
    summary="Change one delivery",
    openapi_extra=body(ItemPatch),
    responses=problems(400, 401, 404, 413, 415, 422, 503),
)
async def patch(seq: Number, request: Request, held: Held, user: User) -> Response:
    """What is left out stays as it is. Answers the Item as it is then."""
    wanted = await json_body(request, ItemPatch)
    if await held.inbox.one(user.tenant, user.user, seq) is None:
        raise _no_such(seq)
    await held.inbox.act(user.tenant, user.user, wanted.actions(), seqs=[seq], up_to=None)
    row = await held.inbox.one(user.tenant, user.user, seq)
    if row is None:
        raise _no_such(seq)
    return Response(_item(row), media_type=JSON)


@router.delete("/{seq}", status_code=204, summary="Delete one delivery", responses=problems(401, 404, 422, 503))
async def delete(seq: Number, held: Held, user: User) -> Response:
    """It vanishes from every device."""
    done = await held.inbox.act(user.tenant, user.user, [Action.DELETE], seqs=[seq], up_to=None)
    if not done.changed:
        raise _no_such(seq)
    return Response(status_code=204)


def _no_such(seq: int) -> NotFoundError:
    return NotFoundError(f"There is no delivery {seq} in your inbox")


@router.post(
    "/actions",
    response_model=ActionOut,
    summary="Change many deliveries at once",
    openapi_extra=body(ActionIn),
    responses=problems(400, 401, 413, 415, 422, 503),
)
async def act(request: Request, held: Held, user: User) -> Response:
    """`up_to` never touches what arrived after it. `changed` 0 means that nothing was left to change."""
    wanted = await json_body(request, ActionIn)
    done = await held.inbox.act(user.tenant, user.user, [wanted.action], seqs=wanted.seqs, up_to=wanted.up_to)
    return Response(done.as_json(), media_type=JSON)

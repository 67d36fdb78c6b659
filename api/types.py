"""`/v1/types`: the catalogue, in which a tenant says once what holds for all notifications of a type."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api.auth import Backend, NeedsKey
from api.bodies import JSON, json_body
from api.compiled_types import CompiledType
from api.openapi import body, problems
from api.resources import Held
from models.contracts import TypeIn, TypeOut, TypesPage, TypesQuery
from models.errors import NotFoundError, TooManyTypesError
from models.fields import MAX_TYPES, TypeName
from models.frames import dumps
from models.queries import types as sql
from models.states import Scope

router = APIRouter(prefix="/v1/types", tags=["types"])

Writer = Annotated[Backend, Depends(NeedsKey(Scope.TYPES_WRITE))]
_ADDED_LATER = {"digest": None, "critical_overrides": True}  # to what types say: older ones were stored without
Name = Annotated[TypeName, Path(description="Such as shop.order.shipped; what stands before the first . is the domain")]


def _require_domain(backend: Backend, name: str) -> None:
    backend.require_domain(name.partition(".")[0])


@router.put(
    "/{name}",
    response_model=TypeOut,
    summary="Register or change a type",
    openapi_extra=body(TypeIn),
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
)
async def put(name: Name, request: Request, held: Held, backend: Writer) -> Response:
    """Holds for what is accepted afterwards, on every node within a second. What was accepted stays as it is.

    A tenant has 1,000 types at most.
    """
    _require_domain(backend, name)
    wanted = await json_body(request, TypeIn)
    # Raises for what could not be used. In a thread, so that others are served: thirty long templates take a second.
    await asyncio.to_thread(CompiledType.of, 0, wanted)
    said = wanted.model_dump(by_alias=True)
    asked = {"tenant": backend.tenant, "name": name, "body": dumps(said).decode()}
    async with held.database.transaction() as connection:
        await connection.execute(sql.LOCK_CATALOGUE, asked)
        row = await (await connection.execute(sql.PUT_TYPE_IF_ROOM, asked)).fetchone()
    if row is None:
        detail = f"The tenant has {MAX_TYPES:,} types, and may not have more; delete one that nobody sends any more"
        raise TooManyTypesError(detail)
    held.catalogue.note(backend.tenant, name, row["version"], live=True)
    return Response(dumps({"type": name, **said, **row}), media_type=JSON)


@router.get("/{name}", response_model=TypeOut, summary="Look at a type", responses=problems(401, 403, 404, 422, 503))
async def look(name: Name, held: Held, backend: Writer) -> Response:
    """As it was put, with its version."""
    _require_domain(backend, name)
    rows = await held.database.rows(sql.GET_TYPE, {"tenant": backend.tenant, "name": name})
    if not rows:
        raise _no_such(name)
    answer = {"type": name, **_ADDED_LATER, **orjson.loads(rows[0].pop("body")), **rows[0]}
    return Response(dumps(answer), media_type=JSON)


@router.delete("/{name}", status_code=204, summary="Delete a type", responses=problems(401, 403, 404, 422, 503))
async def delete(name: Name, held: Held, backend: Writer) -> Response:
    """What was accepted, and is not delivered yet, keeps the text, priority and expiry that the type gave it."""
    _require_domain(backend, name)
    rows = await held.database.rows(sql.DELETE_TYPE_IF_THERE, {"tenant": backend.tenant, "name": name})
    if not rows:
        raise _no_such(name)
    held.catalogue.note(backend.tenant, name, rows[0]["version"], live=False)
    return Response(status_code=204)


@router.get("", response_model=TypesPage, summary="List types", responses=problems(401, 403, 422, 503))
async def listed(query: Annotated[TypesQuery, Query()], held: Held, backend: Writer) -> Response:
    """In the order of their names, up to 100 on a page; those of the domains that the key may write to."""
    asked = {
        "tenant": backend.tenant,
        "after": query.after,
        "limit": query.limit + 1,
        "domains": sorted(backend.domains),
    }
    rows = await held.database.rows(sql.TYPES_AFTER, asked)
    page = [{"type": row.pop("name"), **row} for row in rows[: query.limit]]
    more = len(rows) > len(page)
    return Response(dumps({"types": page, "next_after": page[-1]["type"] if more else None}), media_type=JSON)


def _no_such(name: str) -> NotFoundError:
    return NotFoundError(f"There is no type {name} in this tenant's catalogue")

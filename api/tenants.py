"""`/v1/tenants`: the tenants of the system, for administrators with a key of the tenant `default`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import keys
from api.auth import Backend, NeedsSystemAdmin
from api.bodies import JSON, json_body
from api.openapi import body, problems
from api.resources import Held
from models import tenants as of_tenants
from models.contracts import (
    KeyCreated,
    KeyIn,
    KeyList,
    TenantIn,
    TenantOut,
    TenantPatch,
    TenantsPage,
    TenantsQuery,
    TenantWithSecret,
)
from models.fields import TenantName
from models.frames import dumps
from models.queries import tenants as sql

router = APIRouter(prefix="/v1/tenants", tags=["tenants"])

SystemAdmin = Annotated[Backend, Depends(NeedsSystemAdmin())]
Tenant = Annotated[TenantName, Path(description="The tenant's name")]


@router.post(
    "",
    status_code=201,
    response_model=TenantWithSecret,
    summary="Create a tenant",
    openapi_extra=body(TenantIn),
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
)
async def create(request: Request, held: Held, _: SystemAdmin) -> Response:
    """Nothing is shared with other tenants. `secret` is shown this once; `POST …/keys` makes its first API key.

    A name of which data is left cannot be used again.
    """
    wanted = await json_body(request, TenantIn)
    parameters = of_tenants.creation(wanted)
    async with held.database.transaction() as connection:
        rows = await (await connection.execute(sql.CREATE_IF_NEW, parameters)).fetchall()
        of_tenants.require_new(wanted.id, rows)
        of_tenants.require_empty(wanted.id, await (await connection.execute(sql.HOLDINGS, parameters)).fetchall())
    _look_again(held, wanted.id)
    return Response(dumps({**rows[0], "secret": parameters["secret"]}), 201, media_type=JSON)


@router.get("", response_model=TenantsPage, summary="List tenants", responses=problems(401, 403, 422, 503))
async def listed(query: Annotated[TenantsQuery, Query()], held: Held, _: SystemAdmin) -> Response:
    """In the order of their names, up to 1,000 on a page, without their secrets."""
    asked = {"after": query.after, "limit": query.limit + 1}
    rows = await held.database.rows(sql.TENANTS_AFTER, asked)
    page = rows[: query.limit]
    next_after = page[-1]["id"] if len(rows) > len(page) else None
    return Response(dumps({"tenants": page, "next_after": next_after}), media_type=JSON)


@router.get(
    "/{tenant}", response_model=TenantOut, summary="Look at a tenant", responses=problems(401, 403, 404, 422, 503)
)
async def look(tenant: Tenant, held: Held, _: SystemAdmin) -> Response:
    """Without its secrets. What is null is as the settings say."""
    return Response(dumps(await _row(held, tenant)), media_type=JSON)


async def _row(held: Held, tenant: str) -> dict[str, Any]:
    rows = await held.database.rows(sql.GET_TENANT, {"tenant": tenant})
    of_tenants.require_found(tenant, rows)
    return rows[0]


@router.patch(
    "/{tenant}",
    response_model=TenantWithSecret,
    summary="Change a tenant",
    openapi_extra=body(TenantPatch),
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def patch(tenant: Tenant, request: Request, held: Held, _: SystemAdmin) -> Response:
    """What is left out stays, null is as the settings say. It holds in this process at once, in others within 5 s.

    `secret`: `rotate` makes a new one, which is shown this once; the one until now is believed until `end_rotation`.
    """
    parameters = of_tenants.change(tenant, await json_body(request, TenantPatch))
    rows = await held.database.rows(sql.CHANGE_IF_THERE, parameters)
    of_tenants.require_found(tenant, rows)
    _look_again(held, tenant)
    return Response(dumps({**rows[0], "secret": parameters["secret"]}), media_type=JSON)


@router.delete(
    "/{tenant}",
    status_code=204,
    summary="Delete a tenant that has no data",
    responses=problems(401, 403, 404, 409, 422, 503),
)
async def delete(tenant: Tenant, held: Held, _: SystemAdmin) -> Response:
    """Its keys go with it. While it has notifications, inboxes, rooms, subscriptions or preferences: 409."""
    of_tenants.require_deletable(tenant)
    whose = {"tenant": tenant}
    async with held.database.transaction() as connection:
        await connection.execute(sql.LOCK_TENANT, whose)
        of_tenants.require_found(tenant, await (await connection.execute(sql.DELETE_TENANT, whose)).fetchall())
        await connection.execute(sql.DELETE_EMPTY_ROOMS, whose)
        of_tenants.require_empty(tenant, await (await connection.execute(sql.HOLDINGS, whose)).fetchall())
    _look_again(held, tenant)
    return Response(status_code=204)


def _look_again(held: Held, tenant: str) -> None:
    held.tokens.tenants.forget(tenant)
    held.authenticator.forget_tenant(tenant)


@router.post(
    "/{tenant}/keys",
    status_code=201,
    response_model=KeyCreated,
    summary="Create an API key of a tenant",
    openapi_extra=body(KeyIn),
    responses=problems(400, 401, 403, 404, 413, 415, 422, 503),
)
async def create_key(tenant: Tenant, request: Request, held: Held, _: SystemAdmin) -> Response:
    """As the tenant makes one itself with `POST /v1/keys`, once it has one with the scope `admin`."""
    return await keys.create_for(tenant, request, held)


@router.get(
    "/{tenant}/keys",
    response_model=KeyList,
    summary="List a tenant's API keys",
    responses=problems(401, 403, 404, 422, 503),
)
async def list_keys(tenant: Tenant, held: Held, _: SystemAdmin) -> Response:
    """As the tenant sees them."""
    await _row(held, tenant)
    return await keys.list_of(tenant, held)


@router.delete(
    "/{tenant}/keys/{key_id}",
    status_code=204,
    summary="Revoke a tenant's API key",
    responses=problems(401, 403, 404, 422, 503),
)
async def revoke_key(tenant: Tenant, key_id: keys.KeyId, held: Held, _: SystemAdmin) -> Response:
    """At once in this process, within a second in others."""
    return await keys.revoke_of(tenant, key_id, held)

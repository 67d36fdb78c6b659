"""`/v1/keys` and `/v1/tokens`: who may call, and what lets a user in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import psycopg
from fastapi import APIRouter, Depends, Path, Request, Response

from api.auth import Backend, NeedsKey
from api.bodies import JSON, json_body
from api.openapi import body, problems
from api.resources import Held
from models.contracts import KeyCreated, KeyIn, KeyList, TokenIn, TokenOut
from models.errors import NotFoundError, UnavailableError
from models.frames import dumps
from models.keys import is_key_id, new_key
from models.queries import keys as sql
from models.states import Scope
from models.tenants import require_found
from models.tokens import mint_token

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(prefix="/v1")

Admin = Annotated[Backend, Depends(NeedsKey(Scope.ADMIN))]
KeyId = Annotated[str, Path(description="The key's `id`, which is also what stands between its first two underscores")]
Minter = Annotated[Backend, Depends(NeedsKey(Scope.TOKENS_MINT))]


@router.post(
    "/tokens",
    tags=["tokens"],
    response_model=TokenOut,
    summary="Mint a user token",
    openapi_extra=body(TokenIn),
    responses=problems(400, 401, 403, 413, 415, 422, 503),
)
async def mint(request: Request, held: Held, backend: Minter) -> Response:
    """`ttl` is in seconds. The token is for this key's tenant."""
    wanted = await json_body(request, TokenIn)
    keys = await held.tokens.tenants.of(backend.tenant)
    if keys is None or not keys.secrets:
        raise UnavailableError
    token, expires_at = mint_token(
        keys.secrets[0],
        tenant=backend.tenant,
        user=wanted.user,
        ttl_s=wanted.ttl,
        rooms=wanted.rooms,
        watch=wanted.watch,
        locale=wanted.locale,
    )
    return Response(dumps({"token": token, "expires_at": expires_at}), media_type=JSON)


@router.post(
    "/keys",
    tags=["keys"],
    status_code=201,
    response_model=KeyCreated,
    summary="Create an API key",
    openapi_extra=body(KeyIn),
    responses=problems(400, 401, 403, 413, 415, 422, 503),
)
async def create(request: Request, held: Held, backend: Admin) -> Response:
    """`key` is shown this once; only a hash of it is stored."""
    return await create_for(backend.tenant, request, held)


async def create_for(tenant: str, request: Request, held: Held) -> Response:
    """Create what the body asks for. Raises `NotFoundError` where there is no such tenant."""
    wanted = await json_body(request, KeyIn)
    key_id, key, secret_hash = new_key()
    made = {
        "id": key_id,
        "tenant": tenant,
        "name": wanted.name,
        "secret_hash": secret_hash,
        "scopes": [str(scope) for scope in dict.fromkeys(wanted.scopes)],
        "domains": list(dict.fromkeys(wanted.domains)),
    }
    try:
        rows = await held.database.rows(sql.CREATE_KEY, made)
    except psycopg.errors.ForeignKeyViolation:
        rows = []
    require_found(tenant, rows)
    return Response(dumps({**_public(rows[0]), "key": key}), 201, media_type=JSON)


@router.get("/keys", tags=["keys"], response_model=KeyList, summary="List API keys", responses=problems(401, 403, 503))
async def list_(held: Held, backend: Admin) -> Response:
    """The tenant's keys without their secrets, revoked ones too, newest first."""
    return await list_of(backend.tenant, held)


async def list_of(tenant: str, held: Held) -> Response:
    """Answer with a tenant's keys."""
    rows = await held.database.rows(sql.LIST_KEYS, {"tenant": tenant})
    return Response(dumps({"keys": [_public(row) for row in rows]}), media_type=JSON)


def _public(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "name", "scopes", "domains", "created_at", "revoked_at")}


@router.delete(
    "/keys/{key_id}",
    tags=["keys"],
    status_code=204,
    summary="Revoke an API key",
    responses=problems(401, 403, 404, 503),
)
async def revoke(key_id: KeyId, held: Held, backend: Admin) -> Response:
    """At once in this process, within a second in others."""
    return await revoke_of(backend.tenant, key_id, held)


async def revoke_of(tenant: str, key_id: str, held: Held) -> Response:
    """Revoke a key. Raises `NotFoundError` where the tenant has no such live key."""
    known = is_key_id(key_id) and await held.database.rows(sql.REVOKE_KEY_IF_LIVE, {"id": key_id, "tenant": tenant})
    if not known:
        detail = f"There is no live key {key_id[:64]!r} in this tenant"
        raise NotFoundError(detail)
    held.authenticator.forget(key_id)
    return Response(status_code=204)

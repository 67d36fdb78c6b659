"""Tenants: how their tokens are signed, and what is theirs alone.

Signing keys are cached for a moment: a token check must not cost a query. What REST and operators' commands do to a
tenant is checked here for both; the functions at the end are the commands', on a connection of their own.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from models.contracts import TenantIn
from models.database import Connection, connect, transaction
from models.errors import DefaultTenantError, NotFoundError, TenantExistsError, TenantNotEmptyError
from models.frames import dumps
from models.queries import tenants as sql
from models.tokens import TenantKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.contracts import TenantPatch
    from models.database import Database
    from models.settings import Settings

DEFAULT_TENANT = "default"
_FRESH_S = 5.0
_MOST = 10_000
_OPTIONAL = ("jwks_url", "ingest_per_s", "retention", "require_types")


class Tenants:
    """Finds the keys of tenants. The default tenant's are settings; those of others are in their row."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._default = keys_of_default_tenant(settings)
        self._known: dict[str, tuple[float, TenantKeys | None]] = {}

    async def of(self, tenant: str) -> TenantKeys | None:
        """Return a tenant's keys, or None where there is no such tenant. Raises `UnavailableError`."""
        if tenant == DEFAULT_TENANT:
            return self._default
        now = time.monotonic()
        known = self._known.get(tenant)
        if known is None or now - known[0] > _FRESH_S:
            rows = await self._database.rows(sql.GET_SECRETS, {"tenant": tenant})
            known = (now, _keys(rows[0]["secret"], rows[0]["previous_secret"], rows[0]["jwks_url"]) if rows else None)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[tenant] = known
        return known[1]

    def forget(self, tenant: str) -> None:
        """Look a tenant up again, in this process, at its next use."""
        self._known.pop(tenant, None)


def keys_of_default_tenant(settings: Settings) -> TenantKeys:
    """Return what the settings say."""
    return _keys(
        settings.secret_key.get_secret_value(),
        settings.secret_key_previous.get_secret_value(),
        settings.jwks_url,
    )


def _keys(secret: str | None, previous: str | None, jwks_url: str | None) -> TenantKeys:
    return TenantKeys(tuple(each for each in (secret, previous) if each), jwks_url or None)


def new_secret() -> str:
    """Return what a tenant's tokens are signed with."""
    return secrets.token_urlsafe(48)


# --- what is done to a tenant ----------------------------------------------------------------------------------------


def creation(wanted: TenantIn) -> dict[str, Any]:
    """Return the parameters of `CREATE_IF_NEW`, a new secret among them. Raises `DefaultTenantError`."""
    if wanted.id == DEFAULT_TENANT:
        detail = f"The tenant {DEFAULT_TENANT} is the system's own, and always there; choose another name"
        raise DefaultTenantError(detail)
    return _creation(wanted, new_secret())


def _creation(wanted: TenantIn, secret: str | None) -> dict[str, Any]:
    return {"tenant": wanted.id, "secret": secret, **_stored(wanted.model_dump())}


def change(tenant: str, wanted: TenantPatch) -> dict[str, Any]:
    """Return the parameters of `CHANGE_IF_THERE`; `secret` is null where it stays. Raises `DefaultTenantError`."""
    given = wanted.model_fields_set
    rotate = wanted.secret == "rotate"  # noqa: S105  # no password
    if tenant == DEFAULT_TENANT and (wanted.secret or "jwks_url" in given):
        detail = (
            f"How the tenant {DEFAULT_TENANT} signs is in the settings: "
            "change BELLHOP_SECRET_KEY, BELLHOP_SECRET_KEY_PREVIOUS or BELLHOP_JWKS_URL"
        )
        raise DefaultTenantError(detail)
    return {
        "tenant": tenant,
        "rotate": rotate,
        "end_rotation": wanted.secret is not None and not rotate,
        "secret": new_secret() if rotate else None,
        **{f"set_{name}": name in given for name in _OPTIONAL},
        **_stored(wanted.model_dump()),
    }


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    stored = {name: values[name] for name in _OPTIONAL}
    stored["retention"] = None if stored["retention"] is None else dumps(stored["retention"]).decode()
    return stored


def require_new(tenant: str, created: Iterable[object]) -> None:
    """Raise `TenantExistsError` where `CREATE_IF_NEW` returned nothing."""
    if not created:
        detail = f"There is a tenant {tenant!r} already; choose another name, or change that one"
        raise TenantExistsError(detail)


def require_found(tenant: str, found: Iterable[object]) -> None:
    """Raise `NotFoundError` where a statement about one tenant returned nothing."""
    if not found:
        detail = f"There is no tenant {tenant[:64]!r}"
        raise NotFoundError(detail)


def require_deletable(tenant: str) -> None:
    """Raise `DefaultTenantError` for the one that cannot be."""
    if tenant == DEFAULT_TENANT:
        detail = f"The tenant {DEFAULT_TENANT} cannot be deleted: its keys are the system's"
        raise DefaultTenantError(detail)


def require_empty(tenant: str, holdings: Iterable[Mapping[str, Any]]) -> None:
    """Raise `TenantNotEmptyError` where `HOLDINGS` found something: nothing is erased in passing."""
    kinds = ", ".join(str(row["kind"]) for row in holdings)
    if kinds:
        detail = (
            f"The tenant {tenant} still has {kinds}; erase its users and let retention remove the rest, "
            "or revoke its keys to shut it out at once"
        )
        raise TenantNotEmptyError(detail)


# --- for operators' commands -----------------------------------------------------------------------------------------


def list_tenants(database_url: str) -> list[dict[str, Any]]:
    """Return all tenants without their secrets, oldest first."""
    with connect(database_url) as connection:
        return connection.execute(sql.LIST_TENANTS).fetchall()


def create_tenant(database_url: str, wanted: TenantIn) -> str:
    """Create a tenant and return its secret, for the only time. Raises `TenantExistsError` and others."""
    parameters = creation(wanted)
    with connect(database_url) as connection, transaction(connection):
        require_new(wanted.id, connection.execute(sql.CREATE_IF_NEW, parameters).fetchall())
        require_empty(wanted.id, connection.execute(sql.HOLDINGS, {"tenant": wanted.id}).fetchall())
    secret: str = parameters["secret"]
    return secret


def ensure_tenant(connection: Connection, tenant: str) -> None:
    """Create a tenant where it is new, as `create_tenant` does. Raises `TenantNotEmptyError`."""
    is_default = tenant == DEFAULT_TENANT
    parameters = _creation(TenantIn(id=tenant), None if is_default else new_secret())
    created = connection.execute(sql.CREATE_IF_NEW, parameters).fetchall()
    if created and not is_default:
        require_empty(tenant, connection.execute(sql.HOLDINGS, {"tenant": tenant}).fetchall())


def change_tenant(database_url: str, tenant: str, wanted: TenantPatch) -> str | None:
    """Change a tenant, and return its secret where it is new. Raises `NotFoundError`, `DefaultTenantError`."""
    parameters = change(tenant, wanted)
    with connect(database_url) as connection:
        require_found(tenant, connection.execute(sql.CHANGE_IF_THERE, parameters).fetchall())
    secret: str | None = parameters["secret"]
    return secret


def delete_tenant(database_url: str, tenant: str) -> None:
    """Delete a tenant and its keys. Raises `NotFoundError`, `DefaultTenantError`, `TenantNotEmptyError`."""
    require_deletable(tenant)
    with connect(database_url) as connection, transaction(connection):
        connection.execute(sql.LOCK_TENANT, {"tenant": tenant})
        require_found(tenant, connection.execute(sql.DELETE_TENANT, {"tenant": tenant}).fetchall())
        connection.execute(sql.DELETE_EMPTY_ROOMS, {"tenant": tenant})
        require_empty(tenant, connection.execute(sql.HOLDINGS, {"tenant": tenant}).fetchall())

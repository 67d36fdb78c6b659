"""How the tokens of tenants are signed, cached for a moment: a token check must not cost a query.

The functions at the end are for operators' commands, on a connection of their own.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from models.database import connect
from models.queries import keys
from models.tokens import TenantKeys

if TYPE_CHECKING:
    from models.database import Database
    from models.settings import Settings

DEFAULT_TENANT = "default"
_FRESH_S = 5.0
_MOST = 10_000


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
            rows = await self._database.rows(keys.GET_TENANT, {"tenant": tenant})
            known = (now, _keys(rows[0]["secret"], rows[0]["previous_secret"], rows[0]["jwks_url"]) if rows else None)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[tenant] = known
        return known[1]


def keys_of_default_tenant(settings: Settings) -> TenantKeys:
    """Return what the settings say."""
    return _keys(
        settings.secret_key.get_secret_value(),
        settings.secret_key_previous.get_secret_value(),
        settings.jwks_url,
    )


def _keys(secret: str | None, previous: str | None, jwks_url: str | None) -> TenantKeys:
    return TenantKeys(tuple(each for each in (secret, previous) if each), jwks_url or None)


def list_tenants(database_url: str) -> list[dict[str, Any]]:
    """Return all tenants without their secrets, oldest first."""
    with connect(database_url) as connection:
        return connection.execute(keys.LIST_TENANTS).fetchall()


def rotate_secret(database_url: str, tenant: str) -> bool:
    """Sign a tenant's tokens with a new secret; the one until now is still believed. False: it has none of its own."""
    return _changed(database_url, keys.ROTATE_IF_OWN, tenant, secret=secrets.token_urlsafe(48))


def end_rotation(database_url: str, tenant: str) -> bool:
    """Believe the secret before the last rotation no longer. Returns False where there is no such tenant."""
    return _changed(database_url, keys.END_ROTATION, tenant)


def set_jwks_url(database_url: str, tenant: str, url: str | None) -> bool:
    """Believe the keys that are published there; None: none. Returns False where there is no such tenant."""
    return _changed(database_url, keys.SET_JWKS_URL, tenant, url=url)


def set_require_types(database_url: str, tenant: str, *, required: bool) -> bool:
    """Refuse notifications whose type is not in the catalogue, or take them. False: there is no such tenant."""
    return _changed(database_url, keys.SET_REQUIRE_TYPES, tenant, required=required)


def _changed(database_url: str, statement: str, tenant: str, **parameters: object) -> bool:
    with connect(database_url) as connection:
        return connection.execute(statement, {"tenant": tenant, **parameters}).fetchone() is not None

"""Secrets of tenants, cached for a moment: a token check must not cost a query."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from models.queries import keys

if TYPE_CHECKING:
    from models.database import Database

DEFAULT_TENANT = "default"
_FRESH_S = 5.0
_MOST = 10_000


class TenantSecrets:
    """Finds the secret that signs a tenant's tokens. The default tenant's is the setting; others are in their row."""

    def __init__(self, database: Database, default_secret: str) -> None:
        self._database = database
        self._default_secret = default_secret
        self._known: dict[str, tuple[float, str | None]] = {}

    async def of(self, tenant: str) -> str | None:
        """Return the secret, or None where there is no such tenant. Raises `UnavailableError`."""
        if tenant == DEFAULT_TENANT:
            return self._default_secret
        now = time.monotonic()
        known = self._known.get(tenant)
        if known is None or now - known[0] > _FRESH_S:
            rows = await self._database.rows(keys.GET_TENANT, {"tenant": tenant})
            known = (now, rows[0]["secret"] if rows else None)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[tenant] = known
        return known[1]

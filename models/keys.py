"""API keys: `bh_<id>_<secret>`. The secret half has 256 bits, so one plain SHA-256 of it is enough to store.

The functions at the end are for operators' commands, on a connection of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Any

from models.database import connect, transaction
from models.fields import API_KEY_PREFIX
from models.queries import keys
from models.tenants import ensure_tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

_ID = re.compile(r"[0-9a-f]{16}")
_KEY = re.compile(API_KEY_PREFIX + r"([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


def new_key() -> tuple[str, str, bytes]:
    """Return a fresh key's id, the whole key, and the hash to store."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return key_id, f"{API_KEY_PREFIX}{key_id}_{secret}", _hash(secret)


def is_key_id(text: str) -> bool:
    """Return whether `text` could be the id of a key."""
    return _ID.fullmatch(text) is not None


def split_key(key: str) -> tuple[str, str] | None:
    """Return a key's id and secret, or None where it cannot be a key."""
    match = _KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


def secret_matches(secret: str, stored: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(_hash(secret), stored)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def create_key(
    database_url: str, *, tenant: str, scopes: Sequence[str], name: str, domains: Sequence[str] = ()
) -> tuple[str, str]:
    """Create a key, and its tenant where it is new. Returns its id, and the whole key for the only time.

    Raises `TenantNotEmptyError` where the tenant is new, and something is left of one that had its name.
    """
    key_id, key, secret_hash = new_key()
    with connect(database_url) as connection, transaction(connection):
        ensure_tenant(connection, tenant)
        connection.execute(
            keys.CREATE_KEY,
            {
                "id": key_id,
                "tenant": tenant,
                "name": name,
                "secret_hash": secret_hash,
                "scopes": list(scopes),
                "domains": list(domains),
            },
        )
    return key_id, key


def list_keys(database_url: str) -> list[dict[str, Any]]:
    """Return all tenants' keys without their secrets, newest first."""
    with connect(database_url) as connection:
        return connection.execute(keys.LIST_ALL_KEYS).fetchall()


def revoke_key(database_url: str, key_id: str) -> bool:
    """Revoke a key. Returns False where there is no live key of that id."""
    with connect(database_url) as connection:
        return connection.execute(keys.REVOKE_KEY_IF_LIVE, {"id": key_id, "tenant": None}).fetchone() is not None

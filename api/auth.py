"""Who calls: a backend by its API key, or a user by a token."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from models.errors import ForbiddenError, TokenInvalidError, UnauthorizedError
from models.keys import secret_matches, split_key
from models.queries import keys as sql
from models.states import Scope
from models.tenants import DEFAULT_TENANT
from models.tokens import UserToken

if TYPE_CHECKING:
    from models.database import Database
    from models.token_verifier import TokenVerifier

_FRESH_S = 1.0  # how long a revoked key may still be honoured by another API process
_MOST_KEYS = 10_000
_NO_KEY = "Send an API key, which begins with bh_, as Authorization: Bearer <key>"
_NOT_VALID = "This API key is unknown or was revoked; ask an admin for another"


@dataclass(frozen=True, slots=True)
class Backend:
    """An authenticated backend."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    domains: frozenset[str]
    tenant_ingest_per_s: float | None = None  # for all keys of the tenant together

    def require(self, scope: Scope) -> None:
        """Raise `ForbiddenError` where the key lacks `scope`."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            detail = f"The API key lacks the scope {scope}; ask an admin for a key that has it"
            raise ForbiddenError(detail)

    def require_domain(self, domain: str) -> None:
        """Raise `ForbiddenError` where the key is for other domains than `domain`."""
        if self.domains and domain not in self.domains:
            detail = f"The API key is only for {', '.join(sorted(self.domains))}, not for {domain}"
            raise ForbiddenError(detail)


class Authenticator:
    """Checks keys and tokens. Keys are remembered for a second, so that a busy one costs one query a second."""

    def __init__(self, database: Database, tokens: TokenVerifier) -> None:
        self._database = database
        self._tokens = tokens
        self._known: dict[str, tuple[float, Backend]] = {}

    async def backend(self, credentials: str) -> Backend:
        """Return who holds this key. Raises `UnauthorizedError`, `UnavailableError`."""
        now = time.monotonic()
        known = self._known.get(credentials)
        if known is not None and now - known[0] < _FRESH_S:
            return known[1]
        self._known.pop(credentials, None)
        parts = split_key(credentials)
        if parts is None:
            raise UnauthorizedError(_NO_KEY)
        key_id, secret = parts
        rows = await self._database.rows(sql.FIND_KEY_IF_LIVE, {"id": key_id})
        if not rows or not secret_matches(secret, rows[0]["secret_hash"]):
            raise UnauthorizedError(_NOT_VALID)
        row = rows[0]
        backend = Backend(
            key_id, row["tenant"], frozenset(row["scopes"]), frozenset(row["domains"]), row["ingest_per_s"]
        )
        if len(self._known) >= _MOST_KEYS:
            self._known.clear()
        self._known[credentials] = (now, backend)
        return backend

    def forget(self, key_id: str) -> None:
        """Stop honouring a key in this process at once."""
        self._known = {text: known for text, known in self._known.items() if known[1].key_id != key_id}

    def forget_tenant(self, tenant: str) -> None:
        """Look the keys of a tenant up again, in this process, at their next use."""
        self._known = {text: known for text, known in self._known.items() if known[1].tenant != tenant}

    async def user(self, credentials: str) -> UserToken:
        """Return what the token says. Raises as `TokenVerifier.verify` does."""
        return await self._tokens.verify(credentials)


def bearer(request: Request) -> str:
    """Return the credentials of the Authorization header, or an empty string."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


class NeedsKey(HTTPBearer):
    """A dependency that lets only backends with `scope` through, and gives the handler the backend.

    It is the security scheme of the OpenAPI document and the check in one: each dependency costs every request.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__(scheme_name="ApiKey", description="An API key: `bh_…`", auto_error=False)
        self._scope = scope

    async def __call__(self, request: Request) -> Backend:  # type: ignore[override]  # more than the header's text
        """Raise `UnauthorizedError`, `ForbiddenError`, `UnavailableError`."""
        authenticator: Authenticator = request.app.state.resources.authenticator
        backend = await authenticator.backend(bearer(request))
        backend.require(self._scope)
        return backend


class NeedsSystemAdmin(NeedsKey):
    """A dependency that lets only administrators of the system through: keys of the default tenant."""

    def __init__(self) -> None:
        super().__init__(Scope.ADMIN)

    async def __call__(self, request: Request) -> Backend:  # type: ignore[override]  # as above
        """Raise as `NeedsKey` does."""
        backend = await super().__call__(request)
        if backend.tenant != DEFAULT_TENANT:
            detail = f"Tenants are managed with a key of the tenant {DEFAULT_TENANT}; this one is of {backend.tenant}"
            raise ForbiddenError(detail)
        return backend


class NeedsToken(HTTPBearer):
    """A dependency that lets only users through, and gives the handler what their token says."""

    def __init__(self) -> None:
        super().__init__(scheme_name="UserToken", description="A user token (JWT)", auto_error=False)

    async def __call__(self, request: Request) -> UserToken:  # type: ignore[override]  # more than the header's text
        """Raise as `TokenVerifier.verify` does."""
        credentials = bearer(request)
        if not credentials:
            detail = "A user token is needed: Authorization: Bearer <token>"
            raise TokenInvalidError(detail)
        resources = request.app.state.resources
        token: UserToken = await resources.authenticator.user(credentials)
        resources.token_locales.note(token)
        return token


User = Annotated[UserToken, Depends(NeedsToken())]

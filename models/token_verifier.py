"""Who a token is for, and whether it is still good: signature, time and revocation, for REST and sockets alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.jwks import Jwks
from models.revocations import Revocations
from models.tenants import Tenants
from models.tokens import verify_token

if TYPE_CHECKING:
    from models.database import Database
    from models.settings import Settings
    from models.tokens import UserToken


class TokenVerifier:
    """Checks user tokens. Whoever owns it runs `revocations.read_regularly`."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.tenants = Tenants(database, settings)
        self.revocations = Revocations(database)
        self._jwks = Jwks(allow_private=settings.jwks_allow_private)

    async def verify(self, token: str) -> UserToken:
        """Return what a token says.

        Raises `TokenInvalidError`, `TokenExpiredError`, `TokenRevokedError`, `UnavailableError`.
        """
        user_token = await verify_token(token, self.tenants, self._jwks)
        await self.revocations.require_valid(user_token)
        return user_token

    async def close(self) -> None:
        """Ask no provider any more."""
        await self._jwks.close()

"""How many sockets one user may have: over all nodes, and on this one alone while Redis is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from models.errors import TooManySocketsError, UnavailableError
from models.redis_keys import user_key

if TYPE_CHECKING:
    from models.presence import PresenceStore
    from models.settings import Settings
    from models.tokens import UserToken
    from socket_server.registry import Registry

log = structlog.get_logger(__name__)


class Crowding:
    """Counts a user's sockets."""

    def __init__(self, settings: Settings, registry: Registry, store: PresenceStore, node_id: str) -> None:
        self._most = settings.sockets_per_user
        self._registry = registry
        self._store = store
        self._node_id = node_id

    async def require_room(self, token: UserToken) -> None:
        """Raise `TooManySocketsError` where a user has as many as they may.

        Other nodes are asked only for users who are here already: a first socket costs nothing. On one node the limit
        holds exactly, as the caller registers the socket in the same step; nodes that let some in at the same moment
        do not know of each other's.
        """
        if not self._most or not (here := self._here(token)):
            return
        elsewhere = await self._elsewhere(token) if here < self._most else 0
        if self._here(token) + elsewhere >= self._most:
            detail = f"A user may have {self._most} sockets open at once; close one of them first"
            raise TooManySocketsError(detail)

    def _here(self, token: UserToken) -> int:
        return len(self._registry.of_user(user_key(token.tenant, token.user)))

    async def _elsewhere(self, token: UserToken) -> int:
        try:
            return await self._store.sockets_elsewhere((token.tenant, token.user), self._node_id)
        except UnavailableError:
            log.debug("redis is away; sockets are counted on this node only")
            return 0

"""Which tokens are no longer good: those that were issued before their user's sockets were ended.

Every process reads what is new from Postgres twice a second, so a revocation holds everywhere within a second, whatever
becomes of Redis, and after any restart. In memory stand those of the last day. A token that was issued before that, or
does not say when, is looked up: only a later revocation concerns it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from models.batching import Batcher
from models.errors import TokenRevokedError
from models.frames import dumps
from models.outage import Outage
from models.polling import Polled
from models.queries import revocations as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.database import Database
    from models.tokens import UserToken

log = structlog.get_logger(__name__)

_KEPT = timedelta(days=1)
_LOOKED_UP_AT_ONCE = 256
_MOST_LOOKED_UP = 10_000
_UNDATED = "The token does not say when it was issued (iat), and its user has been disconnected; get one that does"

User = tuple[str, str]  # tenant and name


class Revocations(Polled):
    """Knows them, and tells `on_new` of each as soon as it does."""

    def __init__(self, database: Database) -> None:
        super().__init__(Outage(log, "postgres is away; revocations are not read"))
        self._database = database
        self._known: dict[User, datetime] = {}
        self._looked_up: dict[User, datetime | None] = {}  # kept up to date like `_known`
        self._complete_since: datetime | None = None  # None: nothing was read yet
        self._look_up = Batcher[User, datetime | None](self._read_some, limit=_LOOKED_UP_AT_ONCE, lanes=2)
        self.on_new: Callable[[User, datetime], None] = lambda *_: None

    async def require_valid(self, token: UserToken) -> None:
        """Raise `TokenRevokedError` where a token is no longer good; `UnavailableError` where nobody can say."""
        await self._until_read()
        whose = (token.tenant, token.user)
        if token.issued_at is None or self._complete_since is None or token.issued_at < self._complete_since:
            _require_later(token, await self._of(whose))
        self.require_still_valid(token)

    def require_still_valid(self, token: UserToken) -> None:
        """Raise `TokenRevokedError` where a token has been revoked since `require_valid`.

        Whoever registers a connection asks in the same step: what is revoked later finds it registered.
        """
        _require_later(token, self._known.get((token.tenant, token.user)))

    async def _of(self, whose: User) -> datetime | None:
        """Return when a user's tokens were revoked last, however long ago."""
        if whose not in self._looked_up:
            revoked_at = await self._look_up(whose)
            while len(self._looked_up) >= _MOST_LOOKED_UP:
                del self._looked_up[next(iter(self._looked_up))]
            self._looked_up[whose] = _later(revoked_at, self._known.get(whose))
        return self._looked_up[whose]

    async def _read_some(self, users: Sequence[User]) -> list[datetime | None]:
        asked = [{"ord": nth, "tenant": tenant, "user_id": user} for nth, (tenant, user) in enumerate(users)]
        rows = await self._database.rows(sql.REVOCATIONS_OF, {"asked": dumps(asked).decode()})
        found: list[datetime | None] = [None] * len(users)
        for row in rows:
            found[row["ord"]] = row["revoked_at"]
        return found

    async def revoke(self, tenant: str, user: str, *, erased: bool = False) -> datetime:
        """Refuse what was issued to a user before now, and return what now is. Raises `UnavailableError`."""
        statement = sql.REVOKE_ERASED if erased else sql.REVOKE
        (row,) = await self._database.rows(statement, {"tenant": tenant, "user": user})
        self._note((tenant, user), row["revoked_at"])
        revoked_at: datetime = row["revoked_at"]
        return revoked_at

    # --- reading what is new -----------------------------------------------------------------------------------------

    async def _read_since(self, since: datetime | None) -> datetime:
        since = since or datetime.now(UTC) - _KEPT
        rows = await self._database.rows(sql.REVOCATIONS_SINCE, {"since": since})
        for row in rows:
            if row["revoked_at"] is not None:
                self._note((row["tenant"], row["user_id"]), row["revoked_at"])
        if self._complete_since is None:
            self._complete_since = since
        self._forget_the_old()
        read_at: datetime = rows[0]["read_at"]
        return read_at

    def _note(self, whose: User, revoked_at: datetime) -> None:
        if whose in self._looked_up:
            self._looked_up[whose] = _later(self._looked_up[whose], revoked_at)
        if revoked_at > self._known.get(whose, datetime.min.replace(tzinfo=UTC)):
            self._known[whose] = revoked_at
            self.on_new(whose, revoked_at)

    def _forget_the_old(self) -> None:
        horizon = datetime.now(UTC) - _KEPT
        if self._complete_since is None or horizon - self._complete_since < _KEPT / 24:
            return
        self._complete_since = horizon
        self._known = {whose: at for whose, at in self._known.items() if at >= horizon}


def _require_later(token: UserToken, revoked_at: datetime | None) -> None:
    if revoked_at is not None and (token.issued_at is None or token.issued_at < revoked_at):
        raise TokenRevokedError("" if token.issued_at is not None else _UNDATED)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((each for each in (one, other) if each is not None), default=None)

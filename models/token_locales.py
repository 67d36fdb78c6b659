"""Which language users last came with, for those who name none in their preferences.

A token may have a `locale`. What users come with is collected, and every half second one statement compares it with
what Postgres remembers, and writes what is new. So nobody who connects waits for it, and where nothing has changed
nothing is written. What a process that is killed had not written yet comes again with its user.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import structlog

from models.errors import UnavailableError
from models.frames import dumps
from models.outage import Outage
from models.queries import preferences as sql
from models.tenants import DEFAULT_TENANT

if TYPE_CHECKING:
    from models.database import Database
    from models.tokens import UserToken

log = structlog.get_logger(__name__)

_INTERVAL_S = 0.5
_MOST_AT_ONCE = 1_000  # users in one statement
_MOST_RECENT = 10_000


class TokenLocales:
    """Collects them. Who comes with the same token again within `again_after_s` seconds is passed over."""

    def __init__(self, database: Database, *, again_after_s: float = 0.0) -> None:
        self._database = database
        self._again_after_s = again_after_s
        self._waiting: dict[tuple[str, str], dict[str, Any]] = {}  # the statement's rows, by tenant and user
        self._recent: dict[tuple[object, ...], float] = {}  # when tokens were noted, by when they came last
        self._outage = Outage(log, "postgres is away; the languages that users come with wait")

    def note(self, token: UserToken) -> None:
        """Note that a user came with a valid token."""
        if token.locale is not None and not self._is_recent(token):
            self._waiting[token.tenant, token.user] = {
                "tenant": token.tenant,
                "user_id": token.user,
                "locale": token.locale,
                "issued_at": token.issued_at,
            }

    def _is_recent(self, token: UserToken) -> bool:
        if not self._again_after_s:
            return False
        now, which = time.monotonic(), (token.tenant, token.user, token.locale, token.issued_at)
        noted_at = self._recent.pop(which, -math.inf)
        is_recent = now - noted_at < self._again_after_s
        while len(self._recent) >= _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[which] = noted_at if is_recent else now
        return is_recent

    async def write(self) -> None:
        """Write what was collected. Raises `UnavailableError`; what is not written then is kept."""
        while some := [*itertools.islice(self._waiting.values(), _MOST_AT_ONCE)]:
            came = {"came": dumps(some).decode(), "default_tenant": DEFAULT_TENANT}
            await self._database.rows(sql.REMEMBER_LOCALES_IF_NEW, came)
            for row in some:
                whose = (row["tenant"], row["user_id"])
                if self._waiting.get(whose) is row:  # unless they have come with another meanwhile
                    del self._waiting[whose]

    async def write_regularly(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                await self.write()
                self._outage.is_over()
            except UnavailableError as error:
                self._outage.goes_on(error)

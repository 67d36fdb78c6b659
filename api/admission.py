"""Whether the API takes in more: as much as a key may send, and as much as the workers can still be expected to do."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import structlog

from models import telemetry
from models.errors import FieldError, OutboxFullError, RateLimitedError, UnavailableError, ValidationFailedError
from models.queries import recover as sql
from models.quotas import WINDOW_S, Quotas
from models.states import Priority

if TYPE_CHECKING:
    import redis.asyncio

    from api.auth import Backend
    from models.database import Database
    from models.quotas import Verdict
    from models.settings import Settings

log = structlog.get_logger(__name__)

_LOOK_S = 1.0
_SHARE = 20  # a look that takes long is followed by a pause of so many times as long
_COME_BACK_S = 5
_MOST_RATES = 1_000


class Admission:
    """Lets requests in, or refuses them with a word on when to come again."""

    def __init__(self, database: Database, client: redis.asyncio.Redis, settings: Settings) -> None:
        self._backlog = Backlog(database, settings.outbox_limit)
        self._client = client
        self._quotas = Quotas("ingest", settings.ingest_per_s, client)
        self._of_tenants: dict[float, Quotas] = {}  # by what they may send per second
        self._named_at: dict[str, float] = {}  # monotonic; when the log named a key that was refused

    async def watch_backlog(self) -> None:
        """Keep knowing how deep the outbox is, for ever."""
        await self._backlog.look_regularly()

    async def admit(self, backend: Backend, cost: int) -> dict[str, str]:
        """Let `cost` notifications or events in, and return the headers that say what is left of the quotas.

        There is one for each key, and one for all keys of a tenant together, where the tenant has a limit. Raises
        `RateLimitedError`, or `ValidationFailedError` where waiting would not help. The headers are those of
        draft-ietf-httpapi-ratelimit-headers.
        """
        asked = [(self._quotas, backend.key_id, "key")] if self._quotas.amount else []
        if backend.tenant_ingest_per_s is not None:
            asked.append((self._quotas_of_tenants(backend.tenant_ingest_per_s), backend.tenant, "tenant"))
        for quotas, _, whose in asked:
            _require_that_it_can_fit(quotas, whose, cost)
        headers: dict[str, str] = {}
        for quotas, name, whose in asked:
            verdict = await quotas.take(name, cost)
            _say(headers, quotas, verdict)
            if not verdict.allowed:
                telemetry.ingest_refusals.labels(RateLimitedError.code).inc(cost)
                self._name(backend)
                detail = (
                    f"This {whose} may send {quotas.amount} notifications and events in {WINDOW_S} s, "
                    f"of which {verdict.remaining} are left, and these are {cost}; try again later"
                )
                raise RateLimitedError(detail, retry_in_ms=verdict.retry_in_s * 1000, headers=headers)
        return headers

    def _quotas_of_tenants(self, per_s: float) -> Quotas:
        """Return what counts for the tenants that may send so much."""
        if per_s not in self._of_tenants:
            if len(self._of_tenants) >= _MOST_RATES:
                self._of_tenants.clear()  # Redis goes on counting; what was on credit is forgiven
            self._of_tenants[per_s] = Quotas("tenant", per_s, self._client)
        return self._of_tenants[per_s]

    def _name(self, backend: Backend) -> None:
        now = time.monotonic()
        if now >= self._named_at.get(backend.key_id, -math.inf) + WINDOW_S:
            self._named_at[backend.key_id] = now
            log.warning("a key has used up its quota", key=backend.key_id, tenant=backend.tenant)

    def require_room(self, priority: Priority) -> None:
        """Raise `OutboxFullError` where so many notifications of a priority wait that more would only wait longer."""
        if not self._backlog.has_room(priority):
            telemetry.ingest_refusals.labels(OutboxFullError.code).inc()
            detail = (
                f"{self._backlog.limit} or more {priority} notifications wait to be dispatched; "
                "try again later, or send what is more urgent"
            )
            raise OutboxFullError(detail, retry_after_s=_COME_BACK_S)


def _require_that_it_can_fit(quotas: Quotas, whose: str, cost: int) -> None:
    if cost > quotas.amount:
        detail = f"Send at most {quotas.amount} at once: a {whose} may send no more in {WINDOW_S} s; there are {cost}"
        raise ValidationFailedError(errors=(FieldError("/notifications", "bulk_size", detail),))  # of a bulk


def _say(headers: dict[str, str], quotas: Quotas, verdict: Verdict) -> None:
    """Add what one quota says to the headers, which are lists."""
    said = {
        "RateLimit-Policy": f'"{quotas.name}";q={quotas.amount};w={WINDOW_S}',
        "RateLimit": f'"{quotas.name}";r={verdict.remaining};t={math.ceil(verdict.reset_in_s)}',
    }
    for name, value in said.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value


class Backlog:
    """How many notifications of each priority are due and not dispatched, as of a moment ago; counted up to `limit`."""

    def __init__(self, database: Database, limit: int) -> None:
        self.limit = limit
        self._database = database
        self._depths = dict.fromkeys(Priority, 0)

    def has_room(self, priority: Priority) -> bool:
        """Say whether fewer than the limit wait; always, where there is none."""
        return not self.limit or self._depths[priority] < self.limit

    async def look_regularly(self) -> None:
        """Look for ever, where there is a limit."""
        while self.limit:
            began = time.monotonic()
            try:
                await self.look()
            except UnavailableError:
                log.debug("postgres is away; the backlog is as it was")
            await asyncio.sleep(max(_LOOK_S, _SHARE * (time.monotonic() - began)))

    async def look(self) -> None:
        """Count. Raises `UnavailableError`."""
        for row in await self._database.rows(sql.due_up_to(self.limit), {}):
            self._depths[Priority.of_rank(row["priority"])] = row["depth"]

"""Stage 6: what clients say they hold, written in one statement for all of them every half second."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from models import telemetry
from models.errors import AckAheadError, UnavailableError
from models.frames import dumps
from models.queries import receipts as sql
from models.states import Priority

if TYPE_CHECKING:
    from models.database import Database
    from socket_server.registry import Connection

log = structlog.get_logger(__name__)


class Receipts:
    """Collects acks. Losing some loses nothing: the client's own number counts when it reconnects."""

    def __init__(self, database: Database, node: str, interval_s: float) -> None:
        self._database = database
        self._interval_s = interval_s
        self._waiting: dict[tuple[str, str], int] = {}
        self._writing = asyncio.Lock()
        self._acked = [telemetry.acked.labels(node, str(priority)) for priority in Priority]
        self._ack_seconds = [telemetry.ack_seconds.labels(str(priority)) for priority in Priority]

    def ack(self, connection: Connection, seq: int) -> None:
        """Note that a client holds everything up to `seq`. Raises `AckAheadError` past what was sent to it."""
        if seq > connection.inbox.sent:
            detail = f"Number {seq} was not sent on this connection yet; the last one was {connection.inbox.sent}"
            raise AckAheadError(detail)
        now = time.time()
        while connection.pending and connection.pending[0].last <= seq:
            frame = connection.pending.popleft()
            self._acked[frame.priority].inc()
            self._ack_seconds[frame.priority].observe(max(0.0, now - frame.accepted_at))
        key = (connection.token.tenant, connection.token.user)
        if seq > self._waiting.get(key, 0):
            self._waiting[key] = seq

    async def write(self) -> None:
        """Write what was collected. Raises `UnavailableError`; then, and when cancelled, it is kept."""
        async with self._writing:  # whoever comes later returns when the write before it is done, too
            if not self._waiting:
                return
            batch, self._waiting = self._waiting, {}
            rows = [{"tenant": tenant, "user_id": user, "seq": seq} for (tenant, user), seq in batch.items()]
            try:
                await self._database.rows(sql.RECORD_ACKS_IF_AHEAD, {"acks": dumps(rows).decode()})
            except (UnavailableError, asyncio.CancelledError):
                for key, seq in batch.items():
                    self._waiting[key] = max(seq, self._waiting.get(key, 0))
                raise

    async def write_regularly(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.write()
            except UnavailableError:
                log.warning("postgres is away; acks wait")

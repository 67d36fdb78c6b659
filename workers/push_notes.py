"""Notes to which nodes a batch was pushed, for those who ask later why somebody has not got something.

What is noted waits for a moment, so that many small batches cost one statement. Nothing waits for a note: one that
cannot be written is dropped, and none is tried again for a while.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from models.frames import dumps
from models.outage import Outage
from models.queries import pushes as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from models.database import Connection
    from models.push import Pushable, Told
    from models.states import Priority

log = structlog.get_logger(__name__)

_WAIT_S = 0.2
_PAUSE_S = 30.0  # after a failure
_NOBODY = ""  # the node of a batch that no node was told of


class PushNotes:
    """One process's. Where it `keeps` nothing, it does nothing."""

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._rows: list[tuple[float, dict[str, Any]]] = []  # each with when it was pushed
        self._written_at = float("-inf")  # monotonic, as the others
        self._paused_until = float("-inf")
        self._outage = Outage(log, "pushes cannot be noted; explanations will not tell of them")

    def add(self, priority: Priority, dispatched_at: datetime, broadcast: str | None, told: Told, at: float) -> None:
        """Note what was pushed at a time, which is monotonic."""
        if not self._keeps or time.monotonic() < self._paused_until:
            return
        batch = {"dispatched_at": dispatched_at, "priority": priority.rank, "notification_id": broadcast}
        nodes = told or {_NOBODY: ()}
        self._rows += [(at, {**batch, "node": node, **_stretches(pushes)}) for node, pushes in nodes.items()]

    def write_if_due(self, connect: Callable[[], Connection]) -> None:
        """Write what has come together, unless something was written only just now."""
        if self._rows and time.monotonic() - self._written_at >= _WAIT_S:
            self.write(connect)

    def write(self, connect: Callable[[], Connection]) -> None:
        """Write what has come together. Never fails."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        now = self._written_at = time.monotonic()
        aged = [{**row, "age_s": now - pushed_at} for pushed_at, row in rows]  # by whatever clock Postgres has
        try:
            connect().execute(sql.NOTE_PUSHES, {"rows": dumps(aged).decode()})
        except psycopg.Error as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            self._outage.goes_on(error)
        else:
            self._outage.is_over()


def _stretches(pushes: Sequence[Pushable]) -> dict[str, Any]:
    return {"users": len(pushes), "stretches": [(push.inbox_id, push.first, push.last) for push in pushes]}

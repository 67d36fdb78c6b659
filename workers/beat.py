"""Beat's scheduler: what comes every so often goes on coming when the clock is set back.

Celery reckons by the wall clock, from when it last sent something. A clock that is set back by an hour makes that an
hour to come, and it would send nothing until then, also after a restart: its notes are in a file.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import PersistentScheduler

log = structlog.get_logger(__name__)


class SteadyScheduler(PersistentScheduler):  # type: ignore[misc]  # Celery has no types
    """Reckons from now where it sent something last at a time that is yet to come."""

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401  # Celery's own
        """Send what is due; return for how many seconds nothing is."""
        now = self.app.now()
        ahead = [entry for entry in self.schedule.values() if entry.last_run_at > now]
        if ahead:
            by_s = max((entry.last_run_at - now).total_seconds() for entry in ahead)
            log.warning("the clock was set back", by_s=round(by_s, 3))
            for entry in ahead:
                entry.last_run_at = now
            self._heap = None  # it is in the order of times that are yet to come
        return float(super().tick(*args, **kwargs))

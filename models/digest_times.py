"""When an open digest closes: so long after its first entry, or at the next moment of a cron expression. Pure.

Cron expressions have five fields and are in UTC, which knows no summer time: every moment comes, and comes once.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

_INTERVAL = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=31)
_CRON = re.compile(r"[0-9A-Za-z*,/-]+( [0-9A-Za-z*,/-]+){4}")


def require_every(every: str) -> str:
    """Return it as it is. Raises `ValueError`, which says what is wrong with it."""
    closes_at(every, datetime.now(UTC))
    return every


def closes_at(every: str, opened_at: datetime) -> datetime:
    """Return when a digest closes that is opened at `opened_at`: always later than that."""
    if interval := _INTERVAL.fullmatch(every):
        length = int(interval[1]) * _UNITS[interval[2]]
        if length > _LONGEST:
            msg = "must be 31 days at most"
            raise ValueError(msg)
        return opened_at + length
    if not _CRON.fullmatch(every):
        msg = 'must be a number of minutes, hours or days, like "15m", "1h" or "7d", or the five fields of a cron line'
        raise ValueError(msg)
    try:
        return next(CronSim(every, opened_at.astimezone(UTC)))
    except CronSimError as error:
        msg = f"is no cron line: {str(error).lower()}"
        raise ValueError(msg) from error
    except StopIteration:
        msg = "is a cron line that no moment fits"
        raise ValueError(msg) from None

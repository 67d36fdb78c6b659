"""What befell a notification on its way to all of its recipients. Pure: from what `queries.ingest` has read.

That of one recipient is in `models.explanation`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from models.told import events_for_all, users

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.told import Row

Event = dict[str, Any]
_BY_USERS = {"acked": "a device of {} held everything up to it", "seen": "{} saw it", "read": "{} read it"}


def timeline_for_all(row: dict[str, Any], events: Iterable[Event], told: Sequence[Row]) -> list[Event]:
    """Return it, oldest first. What several users did is one event, at the time of the first of them."""
    found = [_event(row["created_at"], "accepted", "committed"), *events]
    if row["deliver_at"] is not None and row["deliver_at"] > row["created_at"]:
        until = f"to be delivered at {row['deliver_at']:%Y-%m-%d %H:%M:%S} UTC"
        found.append(_event(row["created_at"], "scheduled", until))
    found += [*_dispatches(row), *events_for_all(told), *_receipts(row)]
    if row["digested"]:
        digests = f"put into digests of {users(row['digested'])}, of which {row['waiting']} wait"
        found.append(_event(row["digested_at"], "digested", digests))
    for each in row["rules"]:
        rule = f"not delivered to {users(each['users'])}: {each['rule']}"
        found.append(_event(datetime.fromisoformat(each["at"]), "suppressed", rule))
    return sorted(found, key=lambda event: event["at"])


def _dispatches(row: dict[str, Any]) -> list[Event]:
    """Return what is said of the inboxes that were written to."""
    detail = f"written to {row['recipients']} inbox{'es' if row['recipients'] != 1 else ''}"
    if row["started_at"] is None:
        return [_event(row["last_at"], "dispatched", detail)] if row["recipients"] else []
    if row["done_at"] is None:
        return [_event(row["started_at"], "dispatching", f"{detail} so far")]
    began = _event(row["started_at"], "dispatching", "began with the first of its audience")
    return [began, _event(row["done_at"], "dispatched", detail)]


def _receipts(row: dict[str, Any]) -> list[Event]:
    """Return what users did. What was acked before such times were kept has no event, and is counted all the same."""
    found = []
    for name, detail in _BY_USERS.items():
        first, last = row[f"first_{name}_at"], row[f"last_{name}_at"]
        if first is not None:
            until = f", the last of them at {last:%Y-%m-%d %H:%M:%S} UTC" if last > first else ""
            found.append(_event(first, name, detail.format(users(row[name])) + until))
    return found


def _event(at: datetime, event: str, detail: str) -> Event:
    return {"at": at, "event": event, "detail": detail}

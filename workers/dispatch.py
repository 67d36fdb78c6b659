"""Stage 3: from the outbox into numbered inboxes, one batch per transaction.

Either a batch's deliveries, numbers and outbox deletions are all committed, or nothing is. A row that fails does not
hold up its batch: the batch is done again row by row, and the one that fails is retried later, then parked.

A broadcast, to a topic or to everyone, is a batch of its own, and as many batches as it takes: each goes on from the
user whom the last one ended with. What was accepted after it, with the same priority, waits for it.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from models import frames, telemetry
from models.database import BUSY, TRANSIENT, Connection, pipelined_transaction, transaction
from models.preferences import Preferences
from models.queries import digests as digest_sql
from models.queries import dispatch as sql
from models.queries import preferences as preference_sql
from workers.choose import DiscardError, FanOut
from workers.collapse import collapse
from workers.fan_out import FanningOut
from workers.plan import MOST_DELIVERIES, Box, Plan, fans_out, is_alone, plan_batch, users_to_ask_about
from workers.withdraw import withdraw_next

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import psycopg

    from models.push import Pushable
    from models.states import Cause, Priority

log = structlog.get_logger(__name__)

_FIRST_RETRY_S = 1.0
_MOST_DOUBLINGS = 6


@dataclass(slots=True)
class Batch:
    """What one transaction did. `full` says that it left something that is due, as far as it could see.

    `dispatched_at` is the time of the transaction, which its deliveries have; `broadcast`, what all of them are of.
    """

    dispatched_at: datetime | None = None
    broadcast: str | None = None
    claimed: int = 0
    full: bool = False
    tell: Callable[[], Sequence[Pushable]] = tuple  # makes the pushes: that takes a while, and nobody need wait for it
    delivered: int = 0
    gathered: int = 0
    dispatched: int = 0
    expired: int = 0
    suppressed: int = 0
    withdrawn: Mapping[Cause, int] = field(default_factory=dict)

    @property
    def pushes(self) -> Sequence[Pushable]:
        """What those are to be told who are there. Made anew each time."""
        return self.tell()


def dispatch_batch(connection: Connection, priority: Priority, *, limit: int, attempts: int) -> Batch:
    """Dispatch up to `limit` due rows of `priority`. Raises `psycopg.OperationalError` where Postgres is away."""
    try:
        return _dispatch(connection, priority, limit=limit)
    except BUSY as error:
        log.warning("somebody holds an inbox; doing the batch row by row", priority=str(priority), error=_reason(error))
    except TRANSIENT:
        raise
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a row is nothing that the others are to wait for
        log.warning("batch failed; doing it row by row", priority=str(priority), error=_reason(error))
    return _dispatch_one_by_one(connection, priority, limit=limit, attempts=attempts)


def _dispatch(connection: Connection, priority: Priority, *, limit: int) -> Batch:
    with pipelined_transaction(connection):
        claimed = _claim(connection, priority, limit)
        if not claimed:
            return Batch()
        if claimed[0]["withdraws"]:
            return _withdraw(connection, priority, claimed)
        if audience := fans_out(claimed[0]):
            connection.execute(sql.WAIT_LITTLE_FOR_LOCKS)  # who waits in a circle with another gives way
            return _fan_out(connection, priority, claimed[0], audience, limit)
        plan = plan_batch(claimed, priority, _preferences(connection, priority, claimed))
        written = _write(connection, priority, plan)
    boxes = written.fetchall()
    return Batch(
        dispatched_at=claimed[0]["now"],
        claimed=len(plan.positions),
        full=len(claimed) == limit or len(plan.positions) < len(claimed),
        tell=lambda: plan.pushes(boxes, priority),
        delivered=len(plan.entries),
        gathered=len(plan.gathered),
        dispatched=plan.dispatched,
        expired=len(plan.events),
        suppressed=len(plan.suppressions),
    )


def _dispatch_one_by_one(connection: Connection, priority: Priority, *, limit: int, attempts: int) -> Batch:
    """Give every row of the batch a savepoint of its own, so that only the bad ones stay behind.

    A row whose inbox somebody holds stays as it is, and so does whatever follows it for the same users: order matters.
    """
    pushes: list[Pushable] = []
    done = Batch(tell=lambda: pushes)
    waiting: set[Box] = set()
    with transaction(connection):
        claimed = _claim(connection, priority, limit)
        connection.execute(sql.WAIT_LITTLE_FOR_LOCKS)
        if claimed and (alone := _alone_or_retry(connection, priority, claimed[0], limit=limit, attempts=attempts)):
            return alone
        done.dispatched_at = claimed[0]["now"] if claimed else None
        for row in itertools.takewhile(lambda row: not is_alone(row), claimed):
            if done.delivered + done.gathered >= MOST_DELIVERIES:
                done.full = True
                return done
            try:
                one = _dispatch_one(connection, priority, row, waiting)
            except BUSY:  # somebody holds what says who waits for it: so all do
                break
            except TRANSIENT:
                raise
            except DiscardError as error:
                _park(connection, priority, row, str(error))
            except Exception as error:  # noqa: BLE001  # as in `dispatch_batch`
                _retry_or_park(connection, priority, row, _reason(error), attempts)
            else:
                if one is None:
                    continue
                plan, told = one
                pushes += told
                done.delivered += len(plan.entries)
                done.gathered += len(plan.gathered)
                done.dispatched += plan.dispatched
                done.expired += len(plan.events)
                done.suppressed += len(plan.suppressions)
            done.claimed += 1
    done.full = len(claimed) == limit or done.claimed < len(claimed)
    return done


def _dispatch_one(
    connection: Connection, priority: Priority, row: dict[str, Any], waiting: set[Box]
) -> tuple[Plan, Sequence[Pushable]] | None:
    """Dispatch a row; None where somebody holds an inbox of it, or one waits already: then all of them wait."""
    with transaction(connection):
        plan = plan_batch([row], priority, _preferences(connection, priority, [row]))
        if waiting.isdisjoint(plan.boxes):
            with suppress(*BUSY), transaction(connection):
                return plan, plan.pushes(_write(connection, priority, plan).fetchall(), priority)
        waiting.update(plan.boxes)
    return None


def _claim(connection: Connection, priority: Priority, limit: int) -> list[dict[str, Any]]:
    connection.execute(sql.LOCK_PRIORITY, {"lock": sql.LOCK_CLASS, "priority": priority.rank})
    claimed = connection.execute(sql.claim_due(limit), {"priority": priority.rank}).fetchall()
    orphans = [row["position"] for row in claimed if row["id"] is None]
    if not orphans:
        return claimed
    log.info("outbox rows whose notification is gone", rows=len(orphans))
    connection.execute(sql.DELETE_ORPHANS, {"positions": orphans})
    return [row for row in claimed if row["id"] is not None]


def _alone_or_retry(
    connection: Connection, priority: Priority, row: dict[str, Any], *, limit: int, attempts: int
) -> Batch | None:
    """Do what is a batch of its own; None where the row is none."""
    if row["withdraws"]:
        return _withdraw_one_or_retry(connection, priority, row)
    if audience := fans_out(row):
        return _fan_out_or_retry(connection, priority, row, audience, limit=limit, attempts=attempts)
    return None


def _withdraw(connection: Connection, priority: Priority, claimed: Sequence[dict[str, Any]]) -> Batch:
    """Take back what the first rows say, as many as follow each other."""
    rows = [*itertools.takewhile(lambda row: row["withdraws"], claimed)]
    done = withdraw_next(connection, priority, rows, most=MOST_DELIVERIES)
    return Batch(claimed=len(rows), full=True, tell=lambda: done.pushes, withdrawn=done.deliveries)


def _withdraw_one_or_retry(connection: Connection, priority: Priority, row: dict[str, Any]) -> Batch:
    """Take back what one row says. It is never parked: what is cancelled or has expired must leave."""
    try:
        with transaction(connection):
            return _withdraw(connection, priority, [row])
    except BUSY:
        return Batch(full=True)
    except TRANSIENT:
        raise
    except Exception as error:
        delay_s = _FIRST_RETRY_S * 2 ** min(row["attempts"], _MOST_DOUBLINGS)
        connection.execute(sql.RETRY_LATER, {"position": row["position"], "delay_s": delay_s})
        log.exception("cannot be taken back; will retry", notification_id=row["id"], reason=_reason(error))
        return Batch(claimed=1, full=True)


def _fan_out_or_retry(
    connection: Connection, priority: Priority, row: dict[str, Any], audience: FanOut, *, limit: int, attempts: int
) -> Batch:
    """Deliver a broadcast to the next users; where that fails, nothing that comes after it is touched."""
    try:
        with transaction(connection):
            return _fan_out(connection, priority, row, audience, limit, careful=True)
    except BUSY:
        return Batch(full=True)
    except TRANSIENT:
        raise
    except Exception as error:  # noqa: BLE001  # as in `dispatch_batch`
        _retry_or_park(connection, priority, row, _reason(error), attempts)
        return Batch(claimed=1, full=True)


def _fan_out(
    connection: Connection,
    priority: Priority,
    row: dict[str, Any],
    audience: FanOut,
    limit: int,
    *,
    careful: bool = False,
) -> Batch:
    """Deliver a broadcast to the next users; `careful` as in `models.queries.dispatch.fan_out`."""
    told = FanningOut(connection, priority, row, audience, careful=careful).next(limit)
    return Batch(
        dispatched_at=row["now"],
        broadcast=row["id"],
        claimed=1,
        full=True,
        tell=told.tell,
        delivered=told.delivered,
        dispatched=int(told.done),
        suppressed=told.suppressed,
        gathered=told.gathered,
    )


def _preferences(
    connection: Connection, priority: Priority, claimed: Sequence[dict[str, Any]]
) -> dict[Box, Preferences]:
    """Read the preferences of all users of a batch who have any, in one statement, if they decide anything."""
    users = users_to_ask_about(claimed, priority)
    if not users:
        return {}
    asked = frames.dumps([{"tenant": tenant, "user_id": user} for tenant, user in users]).decode()
    worded = any(row["texts"] is not None for row in claimed)
    rows = connection.execute(preference_sql.PREFERENCES_OF, {"asked": asked, "worded": worded}).fetchall()
    return {(row["tenant"], row["user_id"]): Preferences.read(row["body"], row["token_locale"]) for row in rows}


def _write(connection: Connection, priority: Priority, plan: Plan) -> psycopg.Cursor[dict[str, Any]]:
    collapse(connection, plan)
    if plan.events:
        connection.execute(sql.NOTE_EVENTS, {"events": frames.dumps(plan.events).decode()})
    if plan.suppressions:
        connection.execute(sql.NOTE_SUPPRESSIONS, {"suppressions": frames.dumps(plan.suppressions).decode()})
    parameters = {
        "rows": frames.dumps(plan.rows()).decode(),
        "priority": priority.rank,
        "positions": plan.positions,
    }
    boxes = connection.execute(sql.DELIVER, parameters)
    if plan.gathered:  # after the inboxes: whoever locks both does it in this order
        connection.execute(digest_sql.GATHER, {"entries": frames.dumps(plan.digest_entries()).decode()})
    return boxes


def _retry_or_park(connection: Connection, priority: Priority, row: dict[str, Any], reason: str, attempts: int) -> None:
    if row["attempts"] + 1 >= attempts:
        _park(connection, priority, row, reason)
        return
    delay_s = _FIRST_RETRY_S * 2 ** row["attempts"]
    connection.execute(sql.RETRY_LATER, {"position": row["position"], "delay_s": delay_s})
    log.warning("dispatch failed; will retry", notification_id=row["id"], reason=reason, delay_s=delay_s)


def _park(connection: Connection, priority: Priority, row: dict[str, Any], reason: str) -> None:
    connection.execute(sql.PARK, {"position": row["position"], "reason": reason})
    telemetry.parked.labels(str(priority)).inc()
    log.error("parked", notification_id=row["id"], reason=reason)


def _reason(error: Exception) -> str:
    diagnosis = getattr(getattr(error, "diag", None), "message_primary", None)
    return f"{type(error).__name__}: {diagnosis or error}"[:500]

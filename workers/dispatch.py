"""Stage 3: from the outbox into numbered inboxes, one batch per transaction.

Either a batch's deliveries, numbers and outbox deletions are all committed, or nothing is. A row that fails does not
hold up its batch: the batch is done again row by row, and the one that fails is retried later, then parked.

A broadcast, to a topic or to everyone, is a batch of its own, and as many batches as it takes: each goes on from the
user whom the last one ended with. What was accepted after it, with the same priority, waits for it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import structlog

from models import frames, telemetry
from models.database import BUSY, TRANSIENT, Connection, pipelined_transaction, transaction
from models.preferences import Preferences
from models.push import BroadcastPush, Push, Pushable, inbox_push
from models.queries import dispatch as sql
from models.queries import preferences as preference_sql
from models.redis_keys import user_key
from models.states import Priority
from workers.choose import Deliver, DiscardError, Expire, FanOut, choose
from workers.withdraw import withdraw_next
from workers.wording import Wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.states import Cause

log = structlog.get_logger(__name__)

MOST_DELIVERIES = 5_000  # in one transaction: bounds how long its inboxes stay locked
_USERS_PER_ROW = 10  # of a broadcast, where a batch may claim so many rows: it is less work for each
_FIRST_RETRY_S = 1.0
_MOST_DOUBLINGS = 6
_NONE = Preferences()


@dataclass(slots=True)
class Batch:
    """What one transaction did. `full` says that it left something that is due, as far as it could see."""

    claimed: int = 0
    full: bool = False
    pushes: list[Pushable] = field(default_factory=list)
    delivered: int = 0
    dispatched: int = 0
    expired: int = 0
    suppressed: int = 0
    withdrawn: Mapping[Cause, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """What a transaction is going to write."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # one per delivery
    positions: list[int] = field(default_factory=list)
    events: list[dict[str, str]] = field(default_factory=list)
    suppressions: list[dict[str, str]] = field(default_factory=list)
    entries: dict[tuple[str, str], list[tuple[bytes, float]]] = field(default_factory=dict)
    dispatched: int = 0


def dispatch_batch(connection: Connection, priority: Priority, *, limit: int, attempts: int) -> Batch:
    """Dispatch up to `limit` due rows of `priority`. Raises `psycopg.OperationalError` where Postgres is away."""
    try:
        return _dispatch(connection, priority, limit=limit)
    except BUSY as error:
        log.warning("somebody holds an inbox; doing the batch row by row", priority=str(priority), error=_reason(error))
    except TRANSIENT:
        raise
    except (psycopg.Error, DiscardError) as error:
        log.warning("batch failed; doing it row by row", priority=str(priority), error=_reason(error))
    return _dispatch_one_by_one(connection, priority, limit=limit, attempts=attempts)


def _dispatch(connection: Connection, priority: Priority, *, limit: int) -> Batch:
    with pipelined_transaction(connection):
        claimed = _claim(connection, priority, limit)
        if not claimed:
            return Batch()
        if claimed[0]["withdraws"]:
            return _withdraw(connection, priority, claimed)
        if audience := _fans_out(claimed[0]):
            return _fan_out(connection, priority, claimed[0], audience, limit)
        plan = _plan(claimed, priority, _preferences(connection, priority, claimed))
        boxes = _write(connection, priority, plan)
    return Batch(
        claimed=len(plan.positions),
        full=len(claimed) == limit or len(plan.positions) < len(claimed),
        pushes=[*_pushes(plan, boxes.fetchall(), priority)],
        delivered=len(plan.rows),
        dispatched=plan.dispatched,
        expired=len(plan.events),
        suppressed=len(plan.suppressions),
    )


def _dispatch_one_by_one(connection: Connection, priority: Priority, *, limit: int, attempts: int) -> Batch:
    """Give every row of the batch a savepoint of its own, so that only the bad ones stay behind.

    A row whose inbox somebody holds stays as it is, and so does whatever follows it for the same users: order matters.
    """
    done = Batch()
    waiting: set[tuple[str, str]] = set()
    with transaction(connection):
        claimed = _claim(connection, priority, limit)
        connection.execute(sql.WAIT_LITTLE_FOR_LOCKS)
        if claimed and (alone := _alone_or_retry(connection, priority, claimed[0], limit=limit, attempts=attempts)):
            return alone
        preferences = _preferences(connection, priority, claimed)
        for row in itertools.takewhile(lambda row: not _is_alone(row), claimed):
            if done.delivered >= MOST_DELIVERIES:
                done.full = True
                return done
            try:
                plan = _plan([row], priority, preferences)
                if not waiting.isdisjoint(plan.entries):
                    waiting.update(plan.entries)
                    continue
                with transaction(connection):
                    boxes = _write(connection, priority, plan).fetchall()
            except BUSY:
                waiting.update(plan.entries)
                continue
            except TRANSIENT:
                raise
            except DiscardError as error:
                _park(connection, priority, row, str(error))
            except psycopg.Error as error:
                _retry_or_park(connection, priority, row, _reason(error), attempts)
            else:
                done.pushes += _pushes(plan, boxes, priority)
                done.delivered += len(plan.rows)
                done.dispatched += plan.dispatched
                done.expired += len(plan.events)
                done.suppressed += len(plan.suppressions)
            done.claimed += 1
    done.full = len(claimed) == limit or done.claimed < len(claimed)
    return done


def _claim(connection: Connection, priority: Priority, limit: int) -> list[dict[str, Any]]:
    connection.execute(sql.LOCK_PRIORITY, {"lock": sql.LOCK_CLASS, "priority": priority.rank})
    return connection.execute(sql.claim_due(limit), {"priority": priority.rank}).fetchall()


def _choose(row: dict[str, Any]) -> Deliver | FanOut | Expire:
    actor = orjson.loads(row["actor"]) if row["actor"] else {}
    return choose(row["audience"], row["expires_at"], row["now"], actor.get("id", ""))


def _fans_out(row: dict[str, Any]) -> FanOut | None:
    """Return for whom a row is to be fanned out, if it is."""
    try:
        chosen = _choose(row)
    except DiscardError:
        return None
    return chosen if isinstance(chosen, FanOut) else None


def _is_alone(row: dict[str, Any]) -> bool:
    """Say whether a row cannot share a batch with what is delivered to named users."""
    return row["withdraws"] is not None or _fans_out(row) is not None


def _alone_or_retry(
    connection: Connection, priority: Priority, row: dict[str, Any], *, limit: int, attempts: int
) -> Batch | None:
    """Do what is a batch of its own; None where the row is none."""
    if row["withdraws"]:
        return _withdraw_one_or_retry(connection, priority, row)
    if audience := _fans_out(row):
        return _fan_out_or_retry(connection, priority, row, audience, limit=limit, attempts=attempts)
    return None


def _withdraw(connection: Connection, priority: Priority, claimed: Sequence[dict[str, Any]]) -> Batch:
    """Take back what the first rows say, as many as follow each other."""
    rows = [*itertools.takewhile(lambda row: row["withdraws"], claimed)]
    done = withdraw_next(connection, priority, rows, most=MOST_DELIVERIES)
    return Batch(claimed=len(rows), full=True, pushes=[*done.pushes], withdrawn=done.deliveries)


def _withdraw_one_or_retry(connection: Connection, priority: Priority, row: dict[str, Any]) -> Batch:
    """Take back what one row says. It is never parked: what is cancelled or has expired must leave."""
    try:
        with transaction(connection):
            return _withdraw(connection, priority, [row])
    except BUSY:
        return Batch(full=True)
    except TRANSIENT:
        raise
    except psycopg.Error as error:
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
            return _fan_out(connection, priority, row, audience, limit)
    except BUSY:
        return Batch(full=True)
    except TRANSIENT:
        raise
    except psycopg.Error as error:
        _retry_or_park(connection, priority, row, _reason(error), attempts)
        return Batch(claimed=1, full=True)


def _fan_out(connection: Connection, priority: Priority, row: dict[str, Any], audience: FanOut, limit: int) -> Batch:
    """Deliver a broadcast to the next users."""
    users = min(limit * _USERS_PER_ROW, MOST_DELIVERIES)
    parameters = {
        **{name: row[name] for name in ("id", "tenant", "domain", "type", "due_at", "position")},
        "topic": audience.topic,
        "excluded": audience.excluded,
        "priority": priority.rank,
    }
    everyone = audience.topic is None
    wording = Wording(row, priority)
    muted, silent = [], []
    locales: dict[str, str] = {}
    if _asks_for_preferences(row, priority):
        found = connection.execute(sql.preferences_of_next(users, everyone=everyone), parameters).fetchall()
        for user, theirs in ((each["user_id"], Preferences.of(orjson.loads(each["body"]))) for each in found):
            if rule := _muted_by(row, priority, theirs):
                muted.append({"user_id": user, "rule": rule})
                continue
            if theirs.is_silent(priority, row["now"]):
                silent.append(user)
            if locale := wording.locale_for(theirs):
                locales[user] = locale
    parameters |= {
        "muted": frames.dumps(muted).decode(),
        "silent": silent,
        "locales": frames.dumps(locales).decode(),
    }
    (became,) = connection.execute(sql.fan_out(users, everyone=everyone), parameters).fetchall()
    due_at, not_to_ring = row["due_at"].timestamp(), frozenset(silent)
    tenant, rank = row["tenant"], priority.rank
    pushes: list[Pushable] = [
        BroadcastPush(
            user_key(tenant, user),
            seq,
            (unread, unseen),
            wording.tail(locales.get(user), silent=user in not_to_ring),
            rank,
            due_at,
        )
        for user, seq, unread, unseen in orjson.loads(became["boxes"])
    ]
    return Batch(
        claimed=1,
        full=True,
        pushes=pushes,
        delivered=len(pushes),
        dispatched=int(became["done"]),
        suppressed=became["suppressed"],
    )


def _preferences(
    connection: Connection, priority: Priority, claimed: Sequence[dict[str, Any]]
) -> dict[tuple[str, str], Preferences]:
    """Read the preferences of all users of a batch who have any, in one statement, if they decide anything."""
    asking = (row for row in claimed if _asks_for_preferences(row, priority))
    users = {(row["tenant"], user) for row in asking for user in _named(row)}
    if not users:
        return {}
    asked = frames.dumps([{"tenant": tenant, "user_id": user} for tenant, user in users]).decode()
    rows = connection.execute(preference_sql.PREFERENCES_OF, {"asked": asked}).fetchall()
    return {(row["tenant"], row["user_id"]): Preferences.of(orjson.loads(row["body"])) for row in rows}


def _asks_for_preferences(row: dict[str, Any], priority: Priority) -> bool:
    """Say whether they decide anything: critical ones pass them, and only those with several texts ask for a locale."""
    return priority is not Priority.CRITICAL or row["texts"] is not None


def _muted_by(row: dict[str, Any], priority: Priority, theirs: Preferences) -> str | None:
    return theirs.muted_by(domain=row["domain"], type_=row["type"], priority=priority, mutable=row["mutable"])


def _named(row: dict[str, Any]) -> Sequence[str]:
    audience = row["audience"]
    named = audience.get("users", (audience["user"],) if "user" in audience else ())
    return [user for user in named if isinstance(user, str)]


def _plan(
    claimed: Sequence[dict[str, Any]], priority: Priority, preferences: Mapping[tuple[str, str], Preferences]
) -> _Plan:
    """Decide for a batch; stops early where the batch would grow past `MOST_DELIVERIES`."""
    plan = _Plan()
    nth: Counter[tuple[str, str]] = Counter()
    for row in claimed:
        if row["withdraws"]:
            break
        chosen = _choose(row)
        if isinstance(chosen, FanOut):
            break
        if isinstance(chosen, Expire):
            plan.positions.append(row["position"])
            plan.events.append({"notification_id": row["id"], "event": "expired", "detail": chosen.detail})
            continue
        if plan.rows and len(plan.rows) + len(chosen.users) > MOST_DELIVERIES:
            break
        plan.positions.append(row["position"])
        plan.dispatched += 1
        wording = Wording(row, priority)
        accepted_at = row["due_at"].timestamp()
        for user in chosen.users:
            box = (row["tenant"], user)
            theirs = preferences.get(box, _NONE)
            if rule := _muted_by(row, priority, theirs):
                plan.suppressions.append({"notification_id": row["id"], "user_id": user, "rule": rule})
                continue
            silent = theirs.is_silent(priority, row["now"])
            locale = wording.locale_for(theirs)
            nth[box] += 1
            plan.entries.setdefault(box, []).append((wording.tail(locale, silent=silent), accepted_at))
            plan.rows.append(
                {
                    "tenant": row["tenant"],
                    "user_id": user,
                    "nth": nth[box],
                    "notification_id": row["id"],
                    "domain": row["domain"],
                    "type": row["type"],
                    "silent": silent,
                    "locale": locale,
                }
            )
    return plan


def _write(connection: Connection, priority: Priority, plan: _Plan) -> psycopg.Cursor[dict[str, Any]]:
    if plan.events:
        connection.execute(sql.NOTE_EVENTS, {"events": frames.dumps(plan.events).decode()})
    if plan.suppressions:
        connection.execute(sql.NOTE_SUPPRESSIONS, {"suppressions": frames.dumps(plan.suppressions).decode()})
    parameters = {
        "rows": frames.dumps(plan.rows).decode(),
        "priority": priority.rank,
        "positions": plan.positions,
    }
    return connection.execute(sql.DELIVER, parameters)


def _pushes(plan: _Plan, boxes: Sequence[dict[str, Any]], priority: Priority) -> list[Push]:
    pushes = []
    for box in boxes:
        entries = plan.entries[box["tenant"], box["user_id"]]
        last = box["last_seq"]
        first = last - len(entries) + 1
        payload = frames.inbox_frame(
            first,
            last,
            [frames.arrival(first + nth, tail) for nth, (tail, _) in enumerate(entries)],
            box["unread"],
            box["unseen"],
        )
        key = user_key(box["tenant"], box["user_id"])
        pushes.append(inbox_push(key, first, last, payload, priority.rank, entries[0][1]))
    return pushes


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

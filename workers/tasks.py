"""The Celery tasks: thin drivers around `workers.dispatch` and `workers.recover`.

Retrying belongs here and is simple: a task that meets a missing server gives up, because the rows stay in the outbox
and the sweep sends another hint.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis
import structlog
from kombu.exceptions import OperationalError as BrokerError

from models import telemetry
from models.database import TRANSIENT
from models.digest_closing import close_due
from models.queries import recover as recover_sql
from models.queries import rooms as rooms_sql
from models.queries import withdraw as withdraw_sql
from models.states import Priority
from workers import process
from workers.balance import balance_once
from workers.celery_app import BALANCE, DISPATCH, RETAIN, SWEEP, TRIM_ROOMS, app, send_hint
from workers.dispatch import Batch, dispatch_batch
from workers.pace import Pace
from workers.pushing import Pushing
from workers.retain import retain_until_done
from workers.watch import Watch, nobody_looks

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.resources import Resources

log = structlog.get_logger(__name__)

_OVERLAP_S = 0.1
_TRIM_BUDGET_S = 2.0
_EXPIRY_BUDGET_S = 0.5  # of a sweep
_EXPIRED_AT_ONCE = 5_000
_DIGESTS_BUDGET_S = 0.5  # of a sweep
_DIGESTS_AT_ONCE = 50


@app.task(name=DISPATCH)
def dispatch(priority: str) -> None:
    """Dispatch batch after batch of `priority` until nothing is due or the time budget is spent."""
    urgency = Priority(priority)
    resources = process.resources()
    if not _done(resources, lambda: dispatch_until_idle(resources, urgency, hand_over=lambda: _hint(urgency))):
        Watch(resources.redis, urgency).lower()


def _done(resources: Resources, work: Callable[[], object]) -> bool:
    """Do the work and return True; False where Postgres is away, so that the sweep has to try again.

    A failure may be that of a connection from before a restart of Postgres: the work is tried once more with a new one.
    """
    for attempt in (1, 2):
        try:
            work()
        except TRANSIENT as error:
            resources.forget_postgres()
            log.warning("postgres is away", attempt=attempt, error=str(error).strip())
        else:
            return True
    return False


def dispatch_until_idle(resources: Resources, priority: Priority, hand_over: Callable[[], None]) -> bool:
    """Return whether work may be left, in which case `hand_over` was called. Raises `models.database.TRANSIENT`.

    While it runs, the flag is up that somebody looks after this priority: the API then wakes it through a Redis list
    instead of sending a Celery message, which costs thirty times as much. Whatever is committed while the flag is up
    leaves an element in that list, so after a batch that was not full it is enough to wait for one. The flag is taken
    down before the last look: what is committed after that look finds it down and sends a message.

    The successor is called a little before the time is up, so that nothing waits for it to start.
    """
    pace = Pace(resources.redis, resources.bus, priority, resources.settings.dispatch_batch)
    with Pushing(resources, priority, pace) as pushing:
        is_left = _dispatch_until_idle(resources, priority, pace, pushing, hand_over)
    resources.push_notes.write(resources.postgres)
    return is_left


def _dispatch_until_idle(
    resources: Resources, priority: Priority, pace: Pace, pushing: Pushing, hand_over: Callable[[], None]
) -> bool:
    settings = resources.settings
    watch = Watch(resources.redis, priority)
    deadline = time.monotonic() + settings.dispatch_budget_s
    hand_over_at = deadline - min(_OVERLAP_S, settings.dispatch_budget_s / 2)
    handed_over = flag_is_down = woken = False
    while True:
        now = time.monotonic()
        if now >= hand_over_at and not handed_over:
            hand_over()
            handed_over = True
        if now >= deadline and not woken:
            return True
        if not flag_is_down:
            watch.keep_up()
        batch = dispatch_batch(resources.postgres(), priority, limit=pace.limit, attempts=settings.dispatch_attempts)
        _count(priority, batch)
        if batch.full:
            pushing.beside(batch)
            pace.rest(time.monotonic() - now)
            woken = False
            continue
        if batch.claimed:
            pushing.now(batch)
        elif flag_is_down:
            return False
        left_s = (deadline if handed_over else hand_over_at) - time.monotonic()
        woken = watch.woken_within(min(settings.dispatch_linger_s, left_s))
        flag_is_down = not woken and settings.dispatch_linger_s < left_s
        if flag_is_down:
            watch.lower()


def _count(priority: Priority, batch: Batch) -> None:
    telemetry.dispatched.labels(str(priority)).inc(batch.dispatched)
    telemetry.deliveries.labels(str(priority)).inc(batch.delivered)
    telemetry.expired.labels(str(priority)).inc(batch.expired)
    telemetry.suppressed.labels(str(priority)).inc(batch.suppressed)
    telemetry.gathered.labels(str(priority)).inc(batch.gathered)
    for cause, deliveries in batch.withdrawn.items():
        telemetry.withdrawn.labels(str(cause)).inc(deliveries)


@app.task(name=SWEEP)
def sweep() -> None:
    """Measure the outbox, and start a dispatcher where something is due and nobody looks: this mends lost hints."""
    resources = process.resources()
    _done(resources, lambda: _sweep(resources))


def _sweep(resources: Resources) -> None:
    _queue_expired(resources)
    rows = resources.postgres().execute(recover_sql.OUTBOX_BY_PRIORITY).fetchall()
    (parked,) = resources.postgres().execute(recover_sql.COUNT_PARKED).fetchall()
    telemetry.swept_at.set_to_current_time()
    telemetry.parked_now.set(parked["parked"])
    for row in rows:
        priority = Priority.of_rank(row["priority"])
        telemetry.outbox_depth.labels(str(priority)).set(row["depth"])
        telemetry.outbox_age.labels(str(priority)).set(row["age_s"])
        if row["depth"]:
            _hint_unless_somebody_looks(resources, priority)
    _close_digests(resources)


def _queue_expired(resources: Resources) -> None:
    """Let what has expired leave the inboxes; what does not fit into the time is left to the next sweep."""
    deadline = time.monotonic() + _EXPIRY_BUDGET_S
    while time.monotonic() < deadline:
        queued = resources.postgres().execute(withdraw_sql.queue_expired(_EXPIRED_AT_ONCE)).fetchall()
        if sum(row["n"] for row in queued) < _EXPIRED_AT_ONCE:
            return


def _close_digests(resources: Resources) -> None:
    """Let digests arrive whose time has come; what does not fit into the time is left to the next sweep."""
    deadline = time.monotonic() + _DIGESTS_BUDGET_S
    arriving: set[Priority] = set()
    full = True
    while full and time.monotonic() < deadline:
        closed = close_due(resources.postgres(), _DIGESTS_AT_ONCE)
        arriving.update(each.priority for each in closed if each.priority is not None)
        telemetry.digests_closed.inc(len(closed))
        full = len(closed) == _DIGESTS_AT_ONCE
    for priority in arriving:
        _hint_unless_somebody_looks(resources, priority)


def _hint_unless_somebody_looks(resources: Resources, priority: Priority) -> None:
    try:
        if nobody_looks(resources.redis, priority):
            _hint(priority)
    except redis.RedisError as error:
        log.warning("redis is away; the next sweep will hint again", priority=str(priority), error=str(error))


def _hint(priority: Priority) -> None:
    try:
        send_hint(app, priority)
    except (BrokerError, redis.RedisError, OSError) as error:
        log.warning("redis is away; the next sweep will hint again", priority=str(priority), error=str(error))


@app.task(name=TRIM_ROOMS)
def trim_rooms() -> None:
    """Remove what rooms need not keep any more, a little at a time."""
    resources = process.resources()
    _done(resources, lambda: trim_until_done(resources))


@app.task(name=RETAIN)
def retain() -> None:
    """Remove what inboxes need not keep any more, a little at a time."""
    resources = process.resources()
    _done(resources, lambda: retain_until_done(resources, time.monotonic() + _TRIM_BUDGET_S))


@app.task(name=BALANCE)
def balance() -> None:
    """See to it that what was accepted is on its way or at an end, a few at a time."""
    resources = process.resources()
    _done(resources, lambda: balance_once(resources))


def trim_until_done(resources: Resources) -> None:
    """Trim until no room is due or the time budget is spent. Raises `models.database.TRANSIENT`."""
    deadline = time.monotonic() + _TRIM_BUDGET_S
    while time.monotonic() < deadline:
        (row,) = resources.postgres().execute(rooms_sql.TRIM_ROOMS_IF_DUE).fetchall()
        telemetry.room_events_trimmed.inc(row["events"])
        if not row["rooms"]:
            return

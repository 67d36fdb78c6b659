"""Retention: what is too old or too much leaves inboxes, their logs and, last, the notifications themselves.

All inboxes are looked at one after another, and then all notifications, at most once in a while. What is done to an
inbox is done in small transactions, so nobody waits for longer than one of them takes; one that somebody holds is left
for the next round. Killed anywhere, it goes on from the last commit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import redis
import structlog

from models import telemetry
from models.database import Connection, transaction
from models.frames import dumps
from models.push import WITHDRAWN, change_push
from models.queries import inbox as inbox_sql
from models.queries import pushes as push_sql
from models.queries import retention as sql
from models.queries import tenants as tenants_sql
from models.redis_keys import user_key
from models.retention import ItemRetention, kept_by_type
from models.states import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.settings import Settings
    from workers.resources import Resources

log = structlog.get_logger(__name__)

_INBOXES, _NOTIFICATIONS = "inboxes", "notifications"
_FIRST_ID = "00000000-0000-0000-0000-000000000000"
_EVERYBODY = ""  # no tenant has this name


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for tenants with rules of their own, and for all others."""

    own: dict[str, ItemRetention]
    general: ItemRetention

    @classmethod
    def read(cls, connection: Connection, settings: Settings) -> Rules:
        """Read them as they are now."""
        general = settings.inbox_retention
        rows = connection.execute(tenants_sql.RETENTION_OF_TENANTS).fetchall()
        own = {row["id"]: ItemRetention(general, kept_by_type(row["retention"])) for row in rows}
        return cls(own, ItemRetention(general))

    def of(self, tenant: str) -> ItemRetention:
        """Return what holds for a tenant."""
        return self.own.get(tenant, self.general)

    @property
    def least_age_s(self) -> int:
        """After how many seconds something may be too old."""
        return min(rules.limits.age_s for rules in (self.general, *self.own.values()))

    def limits(self) -> dict[str, Any]:
        """Return the parameters of `LOOK_AT_INBOXES`."""
        own = [{"tenant": tenant, **rules.limits._asdict()} for tenant, rules in self.own.items()]
        return {"own": dumps(own).decode(), **self.general.limits._asdict()}

    def rows(self) -> str:
        """Return all rules of all tenants."""
        of_own = [row for tenant, rules in self.own.items() for row in rules.rows(tenant)]
        return dumps([*self.general.rows(_EVERYBODY), *of_own]).decode()


def retain_until_done(resources: Resources, deadline: float) -> None:
    """Forget old pushes, and go on with the rounds until they have ended, or until `deadline`, which is monotonic.

    Raises `models.database.TRANSIENT`.
    """
    _forget_pushes(resources, (time.monotonic() + deadline) / 2)  # the rounds go on, however many there are
    rules = Rules.read(resources.postgres(), resources.settings)
    rounds = ((_INBOXES, "0", _retain_in_inboxes), (_NOTIFICATIONS, _FIRST_ID, _remove_notifications))
    for what, first, step in rounds:
        turn = {"what": what, "first": first, "round_s": resources.settings.retention_round_s}
        while time.monotonic() < deadline:
            rows = resources.postgres().execute(sql.BEGIN_ROUND_IF_DUE, turn).fetchall()
            if not rows:
                break
            (before,) = (row["cursor"] for row in rows)
            cursor = step(resources, rules, before, deadline)
            moved = {"what": what, "before": before, "cursor": cursor}
            resources.postgres().execute(sql.MOVE_CURSOR_IF_UNMOVED, moved)
            if not cursor:
                break


def _forget_pushes(resources: Resources, deadline: float) -> None:
    kept = {"age_s": resources.settings.push_retention_s}
    gone = True
    while gone and time.monotonic() < deadline:
        (row,) = resources.postgres().execute(push_sql.FORGET_PUSHES, kept).fetchall()
        telemetry.removed.labels("pushed").inc(row["gone"])
        gone = row["gone"] > 0


# --- inboxes ---------------------------------------------------------------------------------------------------------


class Outcome(Enum):
    """What became of one transaction about an inbox."""

    DONE = auto()
    MORE = auto()  # there is more to trim
    HELD = auto()  # by somebody else
    LATE = auto()  # the time is spent


def _retain_in_inboxes(resources: Resources, rules: Rules, after: str, deadline: float) -> str:
    """Look after the next inboxes, and return the last one's id; an empty text where there are no more."""
    asked = {"after": int(after), **rules.limits()}
    boxes = resources.postgres().execute(sql.LOOK_AT_INBOXES, asked).fetchall()
    for box in boxes:
        if box["items_due"] or box["log_due"]:
            kept = rules.of(box["tenant"])
            if _retire(resources, kept, box, deadline) is Outcome.LATE:
                return str(box["id"] - 1)
    return str(boxes[-1]["id"]) if len(boxes) == sql.MOST_INBOXES else ""


def _retire(resources: Resources, kept: ItemRetention, box: dict[str, Any], deadline: float) -> Outcome:
    """Retire what is due in an inbox, and trim its log."""
    asked = {"inbox": box["id"], "rules": dumps(kept.rows(box["tenant"])).decode()}
    full, until = box["items_due"], math.inf  # the first step is done: what took long to find would be found for ever
    while full:
        found = [row["seq"] for row in resources.postgres().execute(sql.FIND_RETIRABLE, asked)]
        full = len(found) == sql.MOST_FOUND
        for start in range(0, len(found), sql.MOST_RETIRED):
            some = found[start : start + sql.MOST_RETIRED]
            outcome = _once(resources, kept, box, until, some)
            until = deadline
            if outcome in {Outcome.HELD, Outcome.LATE}:
                return outcome
    outcome = Outcome.MORE
    while outcome is Outcome.MORE:
        outcome = _once(resources, kept, box, deadline)
    return outcome


def _once(
    resources: Resources, kept: ItemRetention, box: dict[str, Any], deadline: float, seqs: Sequence[int] = ()
) -> Outcome:
    """Do as much as one transaction may, and tell the user's devices of it afterwards."""
    if time.monotonic() >= deadline:
        return Outcome.LATE
    connection, action = resources.postgres(), Action.DELETE
    whose = {"tenant": box["tenant"], "user": box["user_id"]}
    changed: list[dict[str, Any]] = []
    with transaction(connection):
        if not connection.execute(sql.LOCK_INBOX_IF_FREE, {"inbox": box["id"]}).fetchall():
            return Outcome.HELD
        if seqs:
            asked = {**whose, "seqs": list(seqs), "action": str(action)}
            changed = connection.execute(inbox_sql.ACT_ON_SEQS[action], asked).fetchall()
        limits = kept.limits._asdict()
        (trimmed,) = connection.execute(sql.TRIM_LOG, {"inbox": box["id"], **limits}).fetchall()
    changes = [{**row, "action": str(action)} for row in changed if row["changed"]]
    telemetry.retired.inc(sum(row["changed"] for row in changes))
    telemetry.removed.labels("delivery").inc(trimmed["deliveries"])
    telemetry.removed.labels("inbox_change").inc(trimmed["changes"])
    try:
        resources.publisher.publish(
            [change_push(user_key(box["tenant"], box["user_id"]), row, WITHDRAWN) for row in changes]
        )
    except redis.RedisError as error:
        telemetry.push_failures.inc()
        log.warning("push failed; the socket nodes will repair it", error=str(error))
    return Outcome.MORE if trimmed["more"] else Outcome.DONE


# --- notifications ---------------------------------------------------------------------------------------------------


def _remove_notifications(resources: Resources, rules: Rules, after: str, _: float) -> str:
    """Remove those of the next that nobody has any more, and return the last one's id; an empty text at the end."""
    asked = {"after": after or _FIRST_ID, "rules": rules.rows(), "age_s": rules.least_age_s}
    (row,) = resources.postgres().execute(sql.REMOVE_NOTIFICATIONS, asked).fetchall()
    telemetry.removed.labels("notification").inc(row["gone"])
    return "" if row["ended"] else str(row["last"])

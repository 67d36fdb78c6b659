"""What a batch is going to write. Pure: claimed rows and preferences in, deliveries out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from models import frames
from models.digest_times import closes_at
from models.preferences import Preferences, overrides
from models.push import Push, inbox_push
from models.redis_keys import user_key
from models.states import FOLDED, Priority
from workers.choose import Deliver, DiscardError, Expire, FanOut, choose
from workers.wording import Wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Box = tuple[str, str]  # tenant and user
CollapseKey = tuple[str, str, str, str]  # tenant, user, type and key

MOST_DELIVERIES = 5_000  # in one transaction: bounds how long its inboxes stay locked
_NONE = Preferences()


@dataclass(slots=True)
class Entry:
    """One delivery. It takes the place of `collapsed` others."""

    box: Box
    row: dict[str, Any]
    wording: Wording
    silent: bool
    locale: str | None
    collapsed: int = 0

    @property
    def collapse_key(self) -> CollapseKey | None:
        """What it has in common with those whose place it takes."""
        key = self.row["collapse_key"]
        return (*self.box, self.row["type"], key) if key is not None else None


@dataclass(slots=True)
class Gathered:
    """One entry of a user's digest."""

    box: Box
    row: dict[str, Any]


@dataclass(slots=True)
class Plan:
    """What a transaction is going to write."""

    entries: list[Entry] = field(default_factory=list)
    gathered: list[Gathered] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    events: list[dict[str, str]] = field(default_factory=list)
    suppressions: list[dict[str, str]] = field(default_factory=list)
    changes: dict[Box, Mapping[str, Any]] = field(default_factory=dict)  # what goes before the arrivals
    dispatched: int = 0

    @property
    def size(self) -> int:
        """How many recipients' rows it writes to."""
        return len(self.entries) + len(self.gathered)

    @property
    def boxes(self) -> set[Box]:
        """Whom it writes to."""
        return {each.box for each in self.entries} | {each.box for each in self.gathered}

    def suppress(self, rule: str, some: Sequence[Entry]) -> None:
        """Deliver all but some of the entries, and note by which rule."""
        left_out = {id(entry) for entry in some}
        self.entries = [entry for entry in self.entries if id(entry) not in left_out]
        self.suppressions += [
            {"notification_id": entry.row["id"], "user_id": entry.box[1], "rule": rule} for entry in some
        ]

    def digest_entries(self) -> list[dict[str, Any]]:
        """Return what waits in digests, as the statement takes it. The first of a digest says when that closes."""
        return [
            {
                "nth": nth,
                "tenant": each.box[0],
                "user_id": each.box[1],
                "type": each.row["type"],
                "key": each.row["digest_key"],
                "closes_at": closes_at(each.row["digest_every"], each.row["now"]),
                "notification_id": each.row["id"],
            }
            for nth, each in enumerate(self.gathered)
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return the deliveries as the statement takes them."""
        nth: Counter[Box] = Counter()
        rows = []
        for entry in self.entries:
            nth[entry.box] += 1
            tenant, user = entry.box
            rows.append(
                {
                    "tenant": tenant,
                    "user_id": user,
                    "nth": nth[entry.box],
                    "notification_id": entry.row["id"],
                    "domain": entry.row["domain"],
                    "type": entry.row["type"],
                    "silent": entry.silent,
                    "locale": entry.locale,
                    "collapse_key": entry.row["collapse_key"],
                    "collapsed": entry.collapsed,
                }
            )
        return rows

    def pushes(self, boxes: Sequence[Mapping[str, Any]], priority: Priority) -> list[Push]:
        """Return a push for each inbox, from what it has become: its last number and its counts."""
        arrivals: dict[Box, list[Entry]] = {}
        for entry in self.entries:
            arrivals.setdefault(entry.box, []).append(entry)
        return [self._push(box, arrivals[box["tenant"], box["user_id"]], priority) for box in boxes]

    def _push(self, box: Mapping[str, Any], entries: Sequence[Entry], priority: Priority) -> Push:
        last = box["last_seq"]
        first = last - len(entries) + 1
        told = [
            frames.arrival(seq, entry.wording.tail(entry.locale, silent=entry.silent, collapsed=entry.collapsed))
            for seq, entry in enumerate(entries, first)
        ]
        change = self.changes.get((box["tenant"], box["user_id"]))
        if change is not None:
            first = change["seq"]
            told.insert(0, frames.change(change))
        payload = frames.inbox_frame(first, last, told, box["unread"], box["unseen"])
        accepted_at = entries[0].row["due_at"].timestamp()
        key = user_key(box["tenant"], box["user_id"])
        return inbox_push(key, first, last, payload, priority.rank, accepted_at, inbox_id=box["id"])


def plan_batch(claimed: Sequence[dict[str, Any]], priority: Priority, preferences: Mapping[Box, Preferences]) -> Plan:
    """Decide for a batch; stops early at what needs a batch of its own, and before growing past `MOST_DELIVERIES`.

    Raises `DiscardError` where an audience cannot be resolved.
    """
    plan = Plan()
    for row in claimed:
        if row["withdraws"]:
            break
        chosen = choose_audience(row)
        if isinstance(chosen, FanOut):
            break
        if isinstance(chosen, Expire):
            plan.positions.append(row["position"])
            plan.events.append({"notification_id": row["id"], "event": "expired", "detail": chosen.detail})
            continue
        if plan.size and plan.size + len(chosen.users) > MOST_DELIVERIES:
            break
        plan.positions.append(row["position"])
        plan.dispatched += 1
        _add(plan, row, chosen, priority, preferences)
    _fold(plan)
    return plan


def _add(
    plan: Plan, row: dict[str, Any], chosen: Deliver, priority: Priority, preferences: Mapping[Box, Preferences]
) -> None:
    wording = Wording(row, priority)
    for user in chosen.users:
        box = (row["tenant"], user)
        theirs = preferences.get(box, _NONE)
        if rule := muted_by(row, priority, theirs):
            plan.suppressions.append({"notification_id": row["id"], "user_id": user, "rule": rule})
            continue
        if row["digest_every"] is not None:
            plan.gathered.append(Gathered(box, row))
            continue
        silent = is_silent(row, priority, theirs)
        plan.entries.append(Entry(box, row, wording, silent, wording.locale_for(theirs)))


def _fold(plan: Plan) -> None:
    """Leave of those with the same collapse key the newest one, which stands for them all."""
    newest: dict[CollapseKey, Entry] = {}
    folded = []
    for entry in plan.entries:
        key = entry.collapse_key
        if key is None or (other := newest.setdefault(key, entry)) is entry:
            continue
        if entry.row["said_at"] < other.row["said_at"]:  # it was tried again
            older, newer = entry, other
        else:
            older, newer = other, entry
        newest[key] = newer
        newer.collapsed += older.collapsed + 1
        folded.append(older)
    if folded:
        plan.suppress(FOLDED, folded)


def choose_audience(row: Mapping[str, Any]) -> Deliver | FanOut | Expire:
    """Decide whom a claimed row is for. Raises `DiscardError` where that cannot be resolved."""
    actor = orjson.loads(row["actor"]) if row["actor"] else {}
    return choose(row["audience"], row["expires_at"], row["now"], actor.get("id", ""))


def fans_out(row: Mapping[str, Any]) -> FanOut | None:
    """Return for whom a row is to be fanned out, if it is."""
    try:
        chosen = choose_audience(row)
    except DiscardError:
        return None
    return chosen if isinstance(chosen, FanOut) else None


def is_alone(row: Mapping[str, Any]) -> bool:
    """Say whether a row cannot share a batch with what is delivered to named users."""
    return row["withdraws"] is not None or fans_out(row) is not None


def asks_for_preferences(row: Mapping[str, Any], priority: Priority) -> bool:
    """Say whether they decide anything: what overrides them asks for a locale at most, where it has several texts."""
    return row["texts"] is not None or not overrides(priority, critical_overrides=row["critical_overrides"])


def muted_by(row: Mapping[str, Any], priority: Priority, theirs: Preferences) -> str | None:
    """Return the rule by which a user does not want it; None where they may get it."""
    return theirs.muted_by(
        domain=row["domain"],
        type_=row["type"],
        priority=priority,
        mutable=row["mutable"],
        critical_overrides=row["critical_overrides"],
    )


def is_silent(row: Mapping[str, Any], priority: Priority, theirs: Preferences) -> bool:
    """Say whether it does not ring where a user gets it now."""
    return theirs.is_silent(priority, row["now"], critical_overrides=row["critical_overrides"])


def users_to_ask_about(claimed: Sequence[Mapping[str, Any]], priority: Priority) -> set[Box]:
    """Return whose preferences decide something in a batch."""
    asking = (row for row in claimed if asks_for_preferences(row, priority))
    return {(row["tenant"], user) for row in asking for user in _named(row)}


def _named(row: Mapping[str, Any]) -> Sequence[str]:
    audience = row["audience"]
    named = audience.get("users", (audience["user"],) if "user" in audience else ())
    return [user for user in named if isinstance(user, str)]

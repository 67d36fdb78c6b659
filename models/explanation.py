"""Why one user has a notification, or has it not. Pure: it decides from what `queries.explain` read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.states import Reason
from models.told import events_for_one, is_offline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from models.told import Row

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reason, and the same as a sentence."""

    reason: Reason
    sentence: str


def explain(user: str, facts: Facts, events: Sequence[Mapping[str, Any]], told: Sequence[Row]) -> Verdict:
    """Decide from the row of `EXPLAIN`, from what befell the notification, oldest first, and from who was told."""
    ends = {event["event"]: event for event in events if event["event"] in {"expired", "cancelled"}}
    if facts["seq"] is not None:
        return _of_a_delivery(facts, ends.get("cancelled"), told)
    if facts["rule"] is not None:
        return Verdict(Reason.SUPPRESSED, f"They do not have it: {facts['rule']}.")
    if facts["digested_at"] is not None:
        return _of_a_digest(facts)
    return _not_for_them(user, facts) or _of_what_waits(facts) or _of_what_ended(ends)


def _of_a_delivery(facts: Facts, cancelled: Mapping[str, Any] | None, told: Sequence[Row]) -> Verdict:
    number = f"number {facts['seq']} of their inbox"
    if facts["deleted_at"] is not None:
        return _of_what_left(facts, cancelled, number)
    if facts["archived_at"] is not None:
        return Verdict(Reason.ARCHIVED, f"They have it, as {number}, and archived it at {_at(facts['archived_at'])}.")
    if facts["read_at"] is not None:
        return Verdict(Reason.READ, f"They have it, as {number}, and read it at {_at(facts['read_at'])}.")
    silently = ", silently because of their quiet hours," if facts["silent"] else ""
    device = "a device of theirs holds it" if _is_acked(facts) else "no device of theirs has said yet that it holds it"
    if is_offline(told) and not _is_acked(facts):
        device += ": none was connected when it came"
    return Verdict(
        Reason.DELIVERED,
        f"They have it, as {number}: it arrived{silently} at {_at(facts['delivered_at'])}, is not read, and {device}.",
    )


def _of_what_left(facts: Facts, cancelled: Mapping[str, Any] | None, number: str) -> Verdict:
    left_at = facts["deleted_at"]
    had = f"They had it, as {number};"
    if facts["replaced"]:
        newer = f"a newer one with its collapse key took its place at {_at(left_at)}"
        return Verdict(Reason.REPLACED, f"{had} {newer}.")
    was_read = facts["read_at"] is not None and cancelled is not None and facts["read_at"] < cancelled["at"]
    if cancelled is not None and left_at >= cancelled["at"] and not was_read:
        return Verdict(Reason.RECALLED, f"{had} it was recalled at {_at(cancelled['at'])}.")
    if facts["expires_at"] is not None and left_at >= facts["expires_at"]:
        return Verdict(Reason.EXPIRED, f"{had} it expired at {_at(facts['expires_at'])}.")
    return Verdict(Reason.DELETED, f"{had} it was deleted at {_at(left_at)}.")


def _of_a_digest(facts: Facts) -> Verdict:
    if facts["digest_closed_at"] is None:
        return Verdict(Reason.WAITING, f"Not yet: it waits in a digest until {_at(facts['digest_closes_at'])}.")
    digest = f"the digest {facts['arrived_as']}, which closed at {_at(facts['digest_closed_at'])}"
    return Verdict(Reason.DIGESTED, f"It arrived within {digest}; ask for that one to see what became of it.")


def _not_for_them(user: str, facts: Facts) -> Verdict | None:
    audience = facts["audience"]
    if "topic" not in audience and "everyone" not in audience:
        named = audience.get("users", [audience.get("user")])
        return None if user in named else _out("it is for others, by name")
    if audience.get("exclude_actor") and facts["actor"] == user:
        return _out("it leaves out its actor, who they are")
    return _not_subscribed(audience["topic"], facts) if "topic" in audience else _without_inbox(facts)


def _not_subscribed(topic: str, facts: Facts) -> Verdict | None:
    """Compare with when it was due last: a dispatch that is tried again goes by the time of that."""
    due_at = facts["due_at"] or max(facts["deliver_at"] or facts["created_at"], facts["created_at"])
    if facts["subscribed_at"] is None:
        return _out(f"they are not subscribed to {topic}")
    if facts["subscribed_at"] > due_at and due_at <= facts["now"]:
        subscribed = f"they subscribed to {topic} at {_at(facts['subscribed_at'])}"
        return Verdict(Reason.TOO_LATE, f"They do not have it: {subscribed}, and it was due at {_at(due_at)}.")
    return None


def _without_inbox(facts: Facts) -> Verdict | None:
    if facts["inbox_since"] is None:
        return _out("it is for everyone with an inbox, and they have none")
    began = facts["started_at"]
    if began is not None and facts["inbox_since"] > began:
        since = f"they have an inbox since {_at(facts['inbox_since'])}"
        return Verdict(Reason.TOO_LATE, f"They do not have it: {since}, and it went out from {_at(began)} on.")
    return None


def _of_what_waits(facts: Facts) -> Verdict | None:
    if facts["due_at"] is not None:
        return _of_the_outbox(facts)
    if facts["parked_at"] is None:
        return None
    parked = f"it could not be dispatched, and is parked since {_at(facts['parked_at'])} until an operator puts it back"
    return Verdict(Reason.PARKED, f"They do not have it: {parked}.")


def _of_the_outbox(facts: Facts) -> Verdict:
    if facts["attempts"]:
        times = f"{facts['attempts']} time{'s' * (facts['attempts'] != 1)}"
        sentence = f"Not yet: its dispatch failed {times}, and is tried again at {_at(facts['due_at'])}."
        return Verdict(Reason.WAITING, sentence)
    if facts["due_at"] > facts["now"]:
        return Verdict(Reason.SCHEDULED, f"Not yet: it is not due before {_at(facts['due_at'])}.")
    if facts["was_their_turn"]:
        return Verdict(Reason.TOO_LATE, "They do not have it: they were not in its audience when it was their turn.")
    if facts["started_at"] is not None:
        return Verdict(Reason.WAITING, "Not yet: it is going out, user by user, and has not come to them.")
    return Verdict(Reason.WAITING, "Not yet: it is due, and waits to be dispatched.")


def _of_what_ended(ends: Mapping[str, Mapping[str, Any]]) -> Verdict:
    if "cancelled" in ends:
        return Verdict(Reason.CANCELLED, f"They do not have it: it was cancelled at {_at(ends['cancelled']['at'])}.")
    if "expired" in ends:
        return Verdict(Reason.EXPIRED, f"They do not have it: it expired; it {ends['expired']['detail']}.")
    return Verdict(
        Reason.UNKNOWN,
        "They do not have it, though it was dispatched and they are in its audience as that is now: they joined it "
        "after their turn, or were erased. Where neither can be, `python -m ops audit` says what is wrong.",
    )


def _out(why: str) -> Verdict:
    return Verdict(Reason.NOT_IN_AUDIENCE, f"They do not have it: {why}.")


def timeline(facts: Facts, events: Iterable[Mapping[str, Any]], told: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what happened on the way to this user, oldest first; what has no time stands where it belongs."""
    noted = [_event(facts["created_at"], "accepted", "committed")]
    if facts["deliver_at"] is not None:
        noted.append(_event(facts["created_at"], "scheduled", f"to be delivered at {_at(facts['deliver_at'])}"))
    noted += [dict(event) for event in events]
    if facts["rule"] is not None:
        noted.append(_event(facts["suppressed_at"], "suppressed", facts["rule"]))
    if facts["digested_at"] is not None:
        noted.append(_event(facts["digested_at"], "digested", "put into a digest"))
    if facts["seq"] is not None:
        silently = ", silently" if facts["silent"] else ""
        noted.append(_event(facts["delivered_at"], "dispatched", f"number {facts['seq']} of their inbox{silently}"))
    noted += events_for_one(told)
    for name in ("seen", "read", "archived", "deleted"):
        if facts[f"{name}_at"] is not None:
            noted.append(_event(facts[f"{name}_at"], name, f"the delivery was {name}"))
    if facts["acked_at"] is not None:
        noted.append(
            _event(facts["acked_at"], "acked", f"a device of theirs held everything up to {facts['acked_to']}")
        )
    noted.sort(key=lambda event: event["at"])
    if _is_acked(facts) and facts["acked_at"] is None:  # before such times were kept
        place = max(nth for nth, event in enumerate(noted, 1) if event["event"] in {"dispatched", "pushed", "offline"})
        noted.insert(place, _event(None, "acked", f"a device of theirs holds everything up to {facts['acked_seq']}"))
    return noted


def _is_acked(facts: Facts) -> bool:
    return facts["seq"] is not None and facts["acked_seq"] >= facts["seq"]


def _event(at: datetime | None, event: str, detail: str) -> dict[str, Any]:
    return {"at": at, "event": event, "detail": detail}


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

"""What a user does not want: mutes, which suppress a notification, and quiet hours, in which it does not ring. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from models.locales import canonical
from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Mapping

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)
NOTHING = '{"mutes": {"domains": [], "types": [], "priorities": []}, "quiet_hours": null, "locale": null}'


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` to `end` by the clock of `zone`, perhaps over midnight, on the days on which they begin."""

    start: time
    end: time
    zone: ZoneInfo
    days: frozenset[str]

    def cover(self, now: datetime) -> bool:
        """Say whether they are now. An hour that the clock skips is none; one that it repeats is quiet twice."""
        clock, today, yesterday = _on_the_clock(self.zone, now)
        if self.start < self.end:
            return today in self.days and self.start <= clock < self.end
        return (clock >= self.start and today in self.days) or (clock < self.end and yesterday in self.days)


@dataclass(frozen=True, slots=True)
class Preferences:
    """One user's. What is critical passes all of it; where `critical_overrides` is false, it is like any other."""

    domains: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    priorities: frozenset[str] = frozenset()
    quiet_hours: QuietHours | None = None
    locale: str | None = None  # canonical

    @classmethod
    def read(cls, body: str, token_locale: str | None = None) -> Preferences:
        """Return the same from its JSON. Users who are written to a lot are read from memory."""
        return _read(body, token_locale)

    @classmethod
    def of(cls, body: Mapping[str, Any], token_locale: str | None = None) -> Preferences:
        """Read what `models.contracts.PreferencesIn` has checked; where it names no locale, `token_locale` counts."""
        mutes, quiet = body["mutes"], body["quiet_hours"]
        hours = _quiet_hours(quiet) if quiet is not None else None
        domains, types, priorities = (frozenset(mutes[kind]) for kind in ("domains", "types", "priorities"))
        locale = body["locale"] or token_locale
        return cls(domains, types, priorities, hours, canonical(locale) if locale else None)

    def muted_by(
        self, *, domain: str, type_: str, priority: Priority, mutable: bool = True, critical_overrides: bool = True
    ) -> str | None:
        """Return the rule that keeps a notification from the user; None where it is to be delivered."""
        if overrides(priority, critical_overrides=critical_overrides) or not mutable:
            return None
        for rule, muted, value in (
            ("domain", self.domains, domain),
            ("type", self.types, type_),
            ("priority", self.priorities, str(priority)),
        ):
            if value in muted:
                return f"the user mutes the {rule} {value}"
        return None

    def is_silent(self, priority: Priority, now: datetime, *, critical_overrides: bool = True) -> bool:
        """Say whether a notification that arrives now is not to ring."""
        if overrides(priority, critical_overrides=critical_overrides):
            return False
        return self.quiet_hours is not None and self.quiet_hours.cover(now)


def overrides(priority: Priority, *, critical_overrides: bool) -> bool:
    """Say whether a notification arrives and rings whatever its recipients want."""
    return priority is Priority.CRITICAL and critical_overrides


def _quiet_hours(said: Mapping[str, Any]) -> QuietHours | None:
    """Return none in a zone that this machine does not know: it was set where more zones are known."""
    try:
        zone = ZoneInfo(said["time_zone"])
    except ZoneInfoNotFoundError:
        return None  # it rings, which is better than that nothing is dispatched to anybody
    start, end = time.fromisoformat(said["start"]), time.fromisoformat(said["end"])
    return QuietHours(start, end, zone, frozenset(said["days"]))


@lru_cache(1_000)  # all of a batch have one `now`
def _on_the_clock(zone: ZoneInfo, now: datetime) -> tuple[time, Day, Day]:
    """Return the time, today and yesterday."""
    local = now.astimezone(zone)
    return local.time(), DAYS[local.weekday()], DAYS[local.weekday() - 1]


@lru_cache(10_000)
def _read(body: str, token_locale: str | None) -> Preferences:
    return Preferences.of(orjson.loads(body), token_locale)

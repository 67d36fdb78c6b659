"""How much is kept: of rooms' logs by the beginnings of their names, of inboxes by tenant and the beginnings of types.

A longer pattern goes before a shorter one, and a tenant's own before those of the settings. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from models.fields import Grant, TypeGrant
from models.grants import ANY, covers

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_S = 10 * 365 * 24 * 3600


class Kept(BaseModel):
    """At least the newest `events` are kept, and of those none that is older than `age_s` seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    age_s: Annotated[int, Field(ge=1, le=_LONGEST_S)] = 7 * 24 * 3600


class KeptItems(BaseModel):
    """Of the types of a pattern, an inbox keeps its newest `items`, and of those none that is older than `age_s`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    items: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 10_000
    """The newest of each inbox."""
    age_s: Annotated[int, Field(strict=True, ge=60, le=_LONGEST_S)] = 365 * 24 * 3600
    """Seconds; none that is older."""


KeptByRoom = dict[Grant, Kept]
KeptByType = Annotated[dict[TypeGrant, KeptItems], Field(min_length=1, max_length=100)]


class Retention:
    """Finds what holds for a room: the longest pattern that covers its name; without any, the defaults."""

    def __init__(self, by_room: Mapping[str, Kept]) -> None:
        self._by_room = _longest_first(by_room)

    def of(self, room: str) -> Kept:
        """Return how much of this room is kept."""
        return next((kept for pattern, kept in self._by_room if covers(pattern, room)), _DEFAULT)


class Limits(NamedTuple):
    """The least that some rule of a tenant keeps, and how much of an inbox's log is kept: as much as `*` says."""

    items: int
    age_s: int
    log_items: int
    log_age_s: int


class ItemRetention:
    """The rules of one tenant, `own`, before those of the settings, `general`. Something holds for every type."""

    def __init__(self, general: Mapping[str, KeptItems], own: Mapping[str, KeptItems] | None = None) -> None:
        self._rules = [*_longest_first(own or {}), *_longest_first(general), (ANY, KeptItems())]
        del self._rules[[pattern for pattern, _ in self._rules].index(ANY) + 1 :]  # nothing gets past it
        (*_, (_, log)) = self._rules
        kept = [kept for _, kept in self._rules]
        self.limits = Limits(min(each.items for each in kept), min(each.age_s for each in kept), log.items, log.age_s)

    def rows(self, tenant: str) -> list[dict[str, Any]]:
        """Return the rules as `models.queries.retention` takes them: of those that fit, the first by `rank` holds."""
        return [
            {
                "tenant": tenant,
                "rank": rank,
                "beginning": pattern.removesuffix(ANY),
                "whole": not pattern.endswith(ANY),
                "items": kept.items,
                "age_s": kept.age_s,
            }
            for rank, (pattern, kept) in enumerate(self._rules)
        ]


def _longest_first(by_pattern: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(by_pattern.items(), key=lambda item: (len(item[0].rstrip(ANY)), ANY not in item[0]), reverse=True)


def kept_by_type(stored: Mapping[str, Any]) -> dict[str, KeptItems]:
    """Read what was checked when it was stored."""
    return {pattern: KeptItems.model_validate(kept) for pattern, kept in stored.items()}


_DEFAULT = Kept()

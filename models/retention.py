"""How much of a room's log is kept, as the settings say it by the beginnings of rooms' names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.fields import Grant
from models.grants import ANY, covers

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kept(BaseModel):
    """At least the newest `events` are kept, and of those none that is older than `age_s` seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    age_s: Annotated[int, Field(ge=1, le=10 * 365 * 24 * 3600)] = 7 * 24 * 3600


KeptByRoom = dict[Grant, Kept]


class Retention:
    """Finds what holds for a room: the longest pattern that covers its name; without any, the defaults."""

    def __init__(self, by_room: Mapping[str, Kept]) -> None:
        self._by_room = sorted(
            by_room.items(), key=lambda item: (len(item[0].rstrip(ANY)), ANY not in item[0]), reverse=True
        )

    def of(self, room: str) -> Kept:
        """Return how much of this room is kept."""
        return next((kept for pattern, kept in self._by_room if covers(pattern, room)), _DEFAULT)


_DEFAULT = Kept()

"""What a user does not want, and when they are not to be disturbed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from models.contracts.base import Message
from models.fields import MAX_MUTES, ClockTime, Domain, Locale, TimeZone, TypeName
from models.preferences import DAYS


class Mutes(Message):
    """What a user does not want: none of it arrives, except what is critical (and overrides them) or not `mutable`."""

    domains: Annotated[list[Domain], Field(max_length=MAX_MUTES)] = Field(default_factory=list)
    """All types of these domains."""
    types: Annotated[list[TypeName], Field(max_length=MAX_MUTES)] = Field(default_factory=list)
    """These types alone."""
    priorities: list[Literal["high", "normal", "low"]] = Field(default_factory=list, max_length=3)
    """`critical` cannot be muted."""


class QuietHoursIn(Message):
    """When what arrives is `silent`: clients do not ring. They begin on `days`, and may go past midnight."""

    start: ClockTime
    """By the clock of `time_zone`."""
    end: ClockTime
    """By the same clock; earlier than `start`: on the next day."""
    time_zone: TimeZone
    """A name of the IANA database. Its summer time is heeded."""
    days: Annotated[
        list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1, max_length=7)
    ] = Field(default_factory=lambda: list(DAYS))
    """On which they begin; by default on all."""

    @model_validator(mode="after")
    def _last_for_some_time(self) -> Self:
        if self.start == self.end:
            raise PydanticCustomError("no_time", "start and end must differ; leave quiet_hours out for none")
        return self


class PreferencesIn(Message):
    """All of a user's preferences: what is left out is as it is for somebody who has none."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "mutes": {"domains": ["blog"], "types": ["shop.order.viewed"], "priorities": ["low"]},
                "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Kyiv"},
                "locale": "uk",
            }
        }
    )

    mutes: Mutes = Field(default_factory=Mutes)
    """What does not arrive."""
    quiet_hours: QuietHoursIn | None = None
    """When it arrives `silent`; null: never."""
    locale: Locale | None = None
    """Which of a type's templates the user reads; null: that of their last token."""

"""The catalogue: what is said once about every notification of a type."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from models.contracts.base import Answer, Message
from models.fields import (
    MAX_BODY_TEMPLATE,
    MAX_DIGEST_TEMPLATE,
    MAX_LOCALES,
    MAX_PAGE,
    MAX_TITLE_TEMPLATE,
    MAX_TTL_S,
    Every,
    Locale,
    Schema,
    Text,
)
from models.states import Priority


class TemplateIn(Message):
    """How a notification is worded in one language: Liquid, filled in from its `data` and `actor`."""

    title: Annotated[Text, StringConstraints(min_length=1, max_length=MAX_TITLE_TEMPLATE)]
    """Becomes 200 characters at most."""
    body: Annotated[Text, StringConstraints(max_length=MAX_BODY_TEMPLATE)] = ""
    """Becomes 4,000 characters at most."""


class DigestIn(Message):
    """How low and normal notifications of a type are gathered, for each recipient and `key`, and arrive as one.

    `every` is how long after the first of them, from `1m` to `31d`, or a cron line of five fields in UTC, whose next
    moment it is. `key` is Liquid, filled in from `data` and `actor` to at most 128 characters.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"every": "1h", "key": "{{ post }}"}]})

    every: Every
    """When the batch closes that a first notification opens."""
    key: Annotated[Text, StringConstraints(max_length=MAX_DIGEST_TEMPLATE)] = ""
    """What gathers together; empty: all of the type."""


class TypeIn(Message):
    """What is said about every notification of a type, so that its senders need not.

    `schema` is a JSON Schema of `data`; `ttl_s` is how many seconds after its time a notification expires; where
    `mutable` is false, users cannot mute it; where `critical_overrides` is false, mutes and quiet hours hold for a
    critical one, too. Who has none of the templates' locales gets `en`, or the first of them where there is no `en`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "priority": "high",
                "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
                "templates": {
                    "en": {"title": "{{ n | plural: one: '# parcel', other: '# parcels' }}"},
                    "uk": {"title": "{{ n | plural: one: '# посилка', few: '# посилки', other: '# посилок' }}"},
                },
                "ttl_s": 86400,
            }
        },
    )

    priority: Priority = Priority.NORMAL
    """Holds where a notification names none."""
    schema_: Schema | None = Field(default=None, alias="schema")
    """A JSON Schema of `data`, of drafts 4 to 2020-12; null: anything goes."""
    templates: Annotated[dict[Locale, TemplateIn], Field(max_length=MAX_LOCALES)] = Field(default_factory=dict)
    """Title and body by locale; without any, each notification brings its title."""
    ttl_s: Annotated[int, Field(strict=True, ge=1, le=MAX_TTL_S)] | None = None
    """Seconds; null: it does not expire."""
    mutable: Annotated[bool, Field(strict=True)] = True
    """False: mutes do not hold it back."""
    critical_overrides: Annotated[bool, Field(strict=True)] = True
    """False: mutes and quiet hours hold for critical ones, too."""
    digest: DigestIn | None = None
    """Gathers what is low or normal; null: each arrives by itself."""


class TypeOut(TypeIn):
    """A type. Each change is a `version`; what was sent keeps what an earlier one made of it."""

    model_config = ConfigDict(json_schema_extra={})

    type: str
    """Its name."""
    version: int
    """1 at first, and one more after each change."""
    updated_at: datetime
    """When it was last changed."""


class TypesQuery(Message):
    """Which page of the catalogue: types after the name `after`, in the order of names."""

    after: Annotated[Text, StringConstraints(max_length=128)] = ""
    """The `next_after` of the last answer."""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = MAX_PAGE
    """How many on a page, at most."""


class TypeSummary(Answer):
    """A type without its schema and templates."""

    type: str
    version: int
    priority: Priority
    ttl_s: int | None
    mutable: bool
    critical_overrides: bool
    has_schema: bool
    """Whether `data` is checked."""
    locales: list[str]
    """Those of its templates."""
    updated_at: datetime


class TypesPage(Answer):
    """Some of the types that the key may write to. `next_after` is null on the last page."""

    types: list[TypeSummary]
    next_after: str | None

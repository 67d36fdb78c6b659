"""The tenants, and what each has of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from models.contracts.base import Answer, Message
from models.fields import MAX_USERS, JwksUrl, TenantName, Text
from models.retention import KeptByType


class TenantSettings(Message):
    """What a tenant has of its own. Null: only what the settings say.

    `ingest_per_s` is for all its keys together, beside the limit of each. Of the types that a pattern of `retention`
    covers, a name or the beginning of names and a `*`, an inbox keeps the newest `items`, and none older than `age_s`.
    With `require_types`, a notification whose type is not in the catalogue is refused.
    """

    jwks_url: JwksUrl | None = None
    """Where an identity provider publishes the keys of user tokens, beside the tenant's own secret."""
    ingest_per_s: Annotated[float, Field(strict=True, ge=0.1, le=1_000_000)] | None = None
    """Notifications and events a second, of all its keys together, on average over 10 s."""
    retention: KeptByType | None = None
    """What its inboxes keep, by type or its beginning and a `*`."""
    require_types: Annotated[bool, Field(strict=True)] = False
    """Refuses notifications whose type is not in the catalogue."""


class TenantIn(TenantSettings):
    """Asks for a new tenant. Its name is part of its users' tokens."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"id": "acme", "ingest_per_s": 500, "retention": {"*": {"age_s": 7776000}}}}
    )

    id: TenantName
    """Its name, for good."""


class TenantPatch(TenantSettings):
    """Changes what it names. A `secret` that is rotated is still believed until `end_rotation`."""

    model_config = ConfigDict(json_schema_extra={"example": {"secret": "rotate"}})

    secret: Literal["rotate", "end_rotation"] | None = None
    """`rotate` makes a new one; `end_rotation` ends the belief in the one before."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set or (self.model_fields_set == {"secret"} and self.secret is None):
            raise PydanticCustomError(
                "empty_patch", "must have at least one of secret, jwks_url, ingest_per_s, retention and require_types"
            )
        return self


class TenantOut(Answer):
    """A tenant without its secrets. `in_rotation`: the secret before the last rotation is still believed."""

    id: str
    jwks_url: str | None
    in_rotation: bool
    ingest_per_s: float | None
    retention: KeptByType | None
    require_types: bool
    created_at: datetime


class TenantWithSecret(TenantOut):
    """A tenant, and the secret that signs its users' tokens where it is new: it is shown this once."""

    secret: str | None
    """Null where none is new."""


class TenantsQuery(Message):
    """Which page of the tenants: those after the name `after`, in the order of names."""

    after: Annotated[Text, StringConstraints(max_length=63)] = ""
    """The `next_after` of the last answer."""
    limit: Annotated[int, Field(ge=1, le=MAX_USERS)] = 100
    """How many on a page, at most."""


class TenantsPage(Answer):
    """Some of the tenants. `next_after` is null on the last page."""

    tenants: list[TenantOut]
    next_after: str | None

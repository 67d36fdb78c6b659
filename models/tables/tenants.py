"""Who may say anything: tenants, their keys and their catalogue of types."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    Double,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from models.tables.columns import time_column


class Tenant(SQLModel, table=True):
    """The isolation boundary.

    `secret` signs its user tokens, `previous_secret` is still believed, and `jwks_url` is where its identity provider
    publishes keys. All null for the default tenant, which uses the settings. `ingest_per_s` is for all its keys
    together, `retention` as in `models.retention.KeptByType`; where they are null, the settings hold alone. With
    `require_types`, a notification whose type is not in the catalogue is refused.
    """

    __tablename__ = "tenant"
    __table_args__ = (Index("tenant_require_types", "id", postgresql_where=text("require_types")),)

    id: str = Field(primary_key=True, sa_type=Text)
    secret: str | None = Field(default=None, sa_type=Text)
    previous_secret: str | None = Field(default=None, sa_type=Text)
    jwks_url: str | None = Field(default=None, sa_type=Text)
    ingest_per_s: float | None = Field(default=None, sa_type=Double)
    retention: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    require_types: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = time_column(default=True, nullable=False)


class ApiKey(SQLModel, table=True):
    """A backend's key. Only a hash of the secret half is stored."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True, sa_type=Text)
    tenant: str = Field(sa_type=Text, foreign_key="tenant.id", index=True)
    name: str = Field(sa_type=Text)
    secret_hash: bytes = Field(sa_type=LargeBinary)
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    domains: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'")))
    created_at: datetime = time_column(default=True, nullable=False)
    revoked_at: datetime | None = time_column()


class CatalogueType(SQLModel, table=True):
    """What is known of a type, as `models.contracts.TypeIn` has checked it. `body` is null once it is deleted.

    What was accepted does not depend on it: a notification holds what its type made of it.
    """

    __tablename__ = "type"
    __table_args__ = (Index("type_updated", "updated_at"),)

    tenant: str = Field(sa_type=Text, primary_key=True)
    name: str = Field(sa_type=Text, primary_key=True)
    version: int = Field(default=1, sa_column_kwargs={"server_default": text("1")})
    body: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # in the order given
    updated_at: datetime = time_column(default=True, nullable=False)

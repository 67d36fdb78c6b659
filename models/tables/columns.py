"""Columns that many tables have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DateTime, text
from sqlmodel import Field

_NOW = text("now()")


def time_column(*, default: bool = False, nullable: bool = True, primary_key: bool = False) -> Any:  # noqa: ANN401  # SQLModel's own type
    """Return a field for a moment; with `default`, that of the row's transaction."""
    return Field(
        default=None,
        sa_column_kwargs={"server_default": _NOW} if default else {},
        sa_type=DateTime(timezone=True),
        nullable=nullable,
        primary_key=primary_key,
    )

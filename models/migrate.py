"""Runs Alembic from code, without an ini file. Migrations take an advisory lock, so that two starts do not collide."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

_SCRIPTS = Path(__file__).parent / "migrations"


def alembic_config(database_url: str) -> Config:
    """Return Alembic's configuration for a `postgresql://` URL."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", sqlalchemy_url(database_url).replace("%", "%%"))
    return config


def sqlalchemy_url(database_url: str) -> str:
    """Return the same URL with psycopg named as the driver."""
    _, _, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}"


def upgrade(database_url: str) -> None:
    """Bring the database to the newest migration. Does nothing where it is there already."""
    command.upgrade(alembic_config(database_url), "head")


def current_and_head(database_url: str) -> tuple[str | None, str]:
    """Return the migration that the database is at (None: none), and the newest one."""
    head = ScriptDirectory.from_config(alembic_config(database_url)).get_current_head()
    engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), str(head)

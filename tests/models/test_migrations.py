"""Migrations say what the tables say, and can be taken back."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

import models.tables  # noqa: F401  # fills the metadata
from models.migrate import alembic_config, current_and_head, sqlalchemy_url, upgrade

if TYPE_CHECKING:
    from ops.embedded import Servers

ROOT = Path(__file__).parents[2]


def test_the_newest_migration_makes_the_tables_that_the_code_describes(database_url: str) -> None:
    engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []


def test_every_migration_can_be_taken_back_and_made_again(servers: Servers) -> None:
    base = servers.database_url.rpartition("/")[0]
    url = f"{base}/up_and_down"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE up_and_down")
        try:
            upgrade(url)
            upgrade(url)  # a second one finds nothing to do
            command.downgrade(alembic_config(url), "base")
            with psycopg.connect(url) as connection:
                left = connection.execute(
                    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
                ).fetchall()
            assert left == [("alembic_version",)]
            upgrade(url)
            current, head = current_and_head(url)
            assert current == head
        finally:
            admin.execute("DROP DATABASE up_and_down WITH (FORCE)")


def test_what_is_known_of_acks_is_kept_both_ways(servers: Servers) -> None:
    base = servers.database_url.rpartition("/")[0]
    url = f"{base}/acks_both_ways"
    known = "SELECT acked_from, acked_seq, acked_at IS NOT NULL FROM inbox ORDER BY user_id"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE acks_both_ways")
        try:
            command.upgrade(alembic_config(url), "0018")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "INSERT INTO inbox (tenant, user_id, last_seq, acked_seq, acked_from, acked_at) VALUES "
                    "('default', 'a', 9, 5, 2, now()), ('default', 'b', 9, 5, NULL, NULL)"
                )
                before = connection.execute(known).fetchall()
                upgrade(url)
                acks = connection.execute("SELECT seq, since, at = acked_at FROM ack JOIN inbox ON id = inbox_id")
                assert acks.fetchall() == [(5, 2, True)]
                command.downgrade(alembic_config(url), "0018")
                assert connection.execute(known).fetchall() == before
        finally:
            admin.execute("DROP DATABASE acks_both_ways WITH (FORCE)")


def test_two_that_migrate_at_once_do_not_collide(servers: Servers) -> None:
    base = servers.database_url.rpartition("/")[0]
    url = f"{base}/twice_at_once"
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE twice_at_once")
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda _: migrate_in_a_process(url), range(3)))
            current, head = current_and_head(url)
            assert current == head
        finally:
            admin.execute("DROP DATABASE twice_at_once WITH (FORCE)")


def migrate_in_a_process(url: str) -> None:
    """Alembic keeps its context in module globals, as one process of a deployment does."""
    code = "import sys; from models.migrate import upgrade; upgrade(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, url], check=True, cwd=ROOT, timeout=60)

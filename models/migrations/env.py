"""Alembic's entry point: one transaction per migration, all of them under an advisory lock.

Who finds the lock taken asks again instead of waiting for it: a waiting statement would keep an index from being built
concurrently.
"""

import time

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

import models.tables  # noqa: F401  # fills the metadata

_LOCK = 0x62656C6C
_TRY = text("SELECT pg_try_advisory_lock(:lock, -1)")
_ASK_AGAIN_S = 0.2

engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "", poolclass=NullPool)
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as locking, engine.connect() as connection:
    while not locking.execute(_TRY, {"lock": _LOCK}).scalar():  # the lock is the session's, and ends with it
        time.sleep(_ASK_AGAIN_S)
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()

"""Closes digests: each becomes one notification, in the transaction that closes it, or stays open as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.database import transaction
from models.digests import MOST_ITEMS, Composed, compose
from models.frames import dumps
from models.queries import digests as sql

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from models.database import Connection, Database, Row

MOST_OF_USER = 100  # of one user, at once
_READ = sql.read_digests(MOST_ITEMS)


def close_due(connection: Connection, limit: int) -> list[Composed]:
    """Close up to `limit` whose time has come. Raises `psycopg.Error`, with nothing done."""
    return _close(connection, sql.lock_due(limit), {})


def close_of_user(connection: Connection, tenant: str, user: str) -> list[Composed]:
    """Close a user's open ones, up to `MOST_OF_USER`, before their time. Raises `psycopg.Error`, with nothing done."""
    return _close(connection, sql.open_of_user(MOST_OF_USER, lock=True), _of(tenant, user))


def look(connection: Connection, tenant: str, user: str) -> list[Composed]:
    """Return a user's open ones, up to `MOST_OF_USER`, and what each would become now. Raises `psycopg.Error`."""
    found = connection.execute(sql.open_of_user(MOST_OF_USER, lock=False), _of(tenant, user)).fetchall()
    return compose(connection.execute(_READ, _ids(found)).fetchall())


class Digests:
    """The same for the API, where a key may be for some `domains`; none stands for all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, tenant: str, user: str, domains: Collection[str]) -> tuple[list[Composed], bool]:
        """Return up to `MOST_OF_USER` open ones, and whether there are more. Raises `UnavailableError`."""
        find = sql.open_of_user(MOST_OF_USER + 1, lock=False)
        found = await self._database.rows(find, _of(tenant, user, domains))
        rows = await self._database.rows(_READ, _ids(found[:MOST_OF_USER])) if found else []
        return compose(rows), len(found) > MOST_OF_USER

    async def close(self, tenant: str, user: str, domains: Collection[str]) -> tuple[list[Composed], bool]:
        """Close up to `MOST_OF_USER`; also say whether there are more. Raises `UnavailableError`, with nothing done."""
        find = sql.open_of_user(MOST_OF_USER + 1, lock=True)
        async with self._database.transaction() as connection:
            found = await (await connection.execute(find, _of(tenant, user, domains))).fetchall()
            if not found:
                return [], False
            rows = await (await connection.execute(_READ, _ids(found[:MOST_OF_USER]))).fetchall()
            composed = compose(rows)
            await connection.execute(sql.CLOSE_IF_OPEN, _written(composed))
        return composed, len(found) > MOST_OF_USER


def _close(connection: Connection, find: str, parameters: dict[str, Any]) -> list[Composed]:
    with transaction(connection):
        found = connection.execute(find, parameters).fetchall()
        if not found:
            return []
        composed = compose(connection.execute(_READ, _ids(found)).fetchall())
        connection.execute(sql.CLOSE_IF_OPEN, _written(composed))
    return composed


def _of(tenant: str, user: str, domains: Collection[str] = ()) -> dict[str, Any]:
    return {"tenant": tenant, "user": user, "domains": list(domains) or None}


def _ids(found: Sequence[Row]) -> dict[str, Any]:
    return {"digests": [row["id"] for row in found]}


def _written(composed: Sequence[Composed]) -> dict[str, Any]:
    return {"digests": dumps([each.row() for each in composed]).decode()}

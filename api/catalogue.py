"""The catalogue of types, as this process knows it: fresh within a second, whoever changed it and wherever.

Which types there are, and in which version, is read from Postgres twice a second, so that a type that nobody registered
costs a look into memory. What a type says is read, and compiled, when it is first used in a version, and kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from api.compiled_types import CompiledType
from models.contracts import TypeIn
from models.outage import Outage
from models.polling import Polled
from models.queries import types as sql

if TYPE_CHECKING:
    from models.database import Database

log = structlog.get_logger(__name__)

_MOST_COMPILED = 1_000

Key = tuple[str, str]  # tenant and name
Change = tuple[int, bool]  # version, and whether it is there


class Catalogue(Polled):
    """Finds types."""

    def __init__(self, database: Database) -> None:
        super().__init__(Outage(log, "postgres is away; the catalogue of types is not read"))
        self._database = database
        self._known: dict[Key, Change] = {}
        self._compiled: OrderedDict[Key, CompiledType] = OrderedDict()
        self._requiring: frozenset[str] = frozenset()
        self._compiling = asyncio.Lock()  # many ask at once for a type that has just changed: one of them compiles it

    async def of(self, tenant: str, name: str) -> CompiledType | None:
        """Return a type as it is now, or None where nobody registered it. Raises `UnavailableError`."""
        await self._until_read()
        key = (tenant, name)
        return self._current(key) or (await self._compile(key) if self._is_there(key) else None)

    def requires_types(self, tenant: str) -> bool:
        """Say whether a tenant refuses types that nobody registered."""
        return tenant in self._requiring

    def note(self, tenant: str, name: str, version: int, *, live: bool) -> None:
        """Know of a change; an older one than what is known changes nothing."""
        key = (tenant, name)
        if version > self._known.get(key, (0, False))[0]:
            self._known[key] = (version, live)
            self._compiled.pop(key, None)

    def _is_there(self, key: Key) -> bool:
        return self._known.get(key, (0, False))[1]

    def _current(self, key: Key) -> CompiledType | None:
        found = self._compiled.get(key)
        if found is not None:
            self._compiled.move_to_end(key)
        return found

    async def _compile(self, key: Key) -> CompiledType | None:
        tenant, name = key
        async with self._compiling:
            if found := self._current(key):
                return found
            rows = await self._database.rows(sql.GET_TYPE, {"tenant": tenant, "name": name})
            if not rows:
                return None  # deleted a moment ago
            version = rows[0]["version"]
            body = TypeIn.model_validate(orjson.loads(rows[0]["body"]))
            found = await asyncio.to_thread(CompiledType.of, version, body)
            self.note(tenant, name, version, live=True)
            if self._known[key][0] == version:
                self._compiled[key] = found
                while len(self._compiled) > _MOST_COMPILED:
                    self._compiled.popitem(last=False)
            return found

    async def _read_since(self, since: datetime | None) -> datetime:
        asked = {"since": since or datetime.min.replace(tzinfo=UTC)}
        rows: list[dict[str, Any]] = await self._database.rows(sql.CHANGES_SINCE, asked)
        for row in rows:
            if row["name"] is not None:
                self.note(row["tenant"], row["name"], row["version"], live=row["live"])
        self._requiring = frozenset(row["tenant"] for row in rows if row["tenant"] is not None and row["name"] is None)
        read_at: datetime = rows[0]["read_at"]
        return read_at

"""Prepares a statement as psycopg would for the product, and asks Postgres for its plan.

After five executions psycopg prepares a statement, and after five more Postgres may keep one generic plan for all
parameters: both kinds are asked for. A statement that writes is rolled back.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any

from psycopg import Rollback, adapters, sql
from psycopg.adapt import PyFormat, Transformer

from models.database import transaction
from ops.plans.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.database import Connection
    from ops.plans.statement import Hot

_PARAMETER = re.compile(r"%\((\w+)\)s")


class Kind(StrEnum):
    """For the parameters at hand, or for any. The generic one is made once, and kept."""

    CUSTOM = "force_custom_plan"
    GENERIC = "force_generic_plan"


class Explainer:
    """Prepares statements on one connection of the product's kind, and keeps them as long as it lives.

    The connection is its own from then on: psycopg must not prepare on it, because it forgets all after a rollback.
    """

    def __init__(self, connection: Connection) -> None:
        connection.prepare_threshold = None
        self._connection = connection
        self._names: dict[Hot | str, str] = {}
        self._numbers = count(1)

    def prepare(self, hot: Hot) -> None:
        """Prepare a statement, with the types that psycopg would name. No plan is made yet."""
        text, names = _numbered(hot.sql)
        types = _types(self._connection, [hot.parameters[name] for name in names])
        name = f"hot_{next(self._numbers)}"
        given = f" ({', '.join(types)})" if types else ""
        self._run(f"PREPARE {name}{given} AS {text}")
        self._names[hot.name] = name

    def plan(self, hot: Hot, kind: Kind, *, analyze: bool = True) -> Plan:
        """Return the plan; with `analyze`, of a run. Raises what Postgres says against it."""
        if hot.name not in self._names:
            self.prepare(hot)
        options = "ANALYZE, BUFFERS, FORMAT JSON" if analyze else "FORMAT JSON"
        call = f"EXPLAIN ({options}) EXECUTE {self._names[hot.name]}{self._arguments(hot)}"
        found: list[Plan] = []
        with transaction(self._connection):
            self._run(f"SET LOCAL plan_cache_mode = {kind}")
            found.append(Plan.parse(self._run(call)[0]["QUERY PLAN"]))
            raise Rollback
        return found[0]

    def _arguments(self, hot: Hot) -> str:
        _, names = _numbered(hot.sql)
        values = [sql.Literal(hot.parameters[name]).as_string(self._connection) for name in names]
        return f" ({', '.join(values)})" if values else ""

    def _run(self, statement: str) -> list[dict[str, Any]]:
        cursor = self._connection.execute(sql.SQL(statement))
        return cursor.fetchall() if cursor.description else []


def _numbered(text: str) -> tuple[str, list[str]]:
    """Return a statement with $1, $2, … in place of psycopg's parameters, and their names in that order."""
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
    return numbered.replace("%%", "%"), names


def _types(connection: Connection, values: Sequence[object]) -> list[str]:
    """Return the types that psycopg sends with these values; for a text it leaves the choice to Postgres."""
    transformer = Transformer(connection)
    transformer.dump_sequence(values, [PyFormat.AUTO] * len(values))
    return [_type_name(oid) for oid in transformer.types or ()]


def _type_name(oid: int) -> str:
    known = adapters.types.get(oid)
    if known is None:
        return "unknown"
    return f"{known.regtype}[]" if known.array_oid == oid else known.regtype

"""The hot statements of the catalogue of types: what is new in it, what a type says, its listing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from models.queries import types
from ops.plans.fill import TENANT
from ops.plans.statement import Hot

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = 101


def of_types() -> Iterator[Hot]:
    """Yield what is done with types."""
    one = {"tenant": TENANT, "name": "shop.order.7"}
    yield Hot(
        "changes of types",
        "every API process, twice a second: which types have changed",
        types.CHANGES_SINCE,
        {"since": datetime.now(UTC) - timedelta(seconds=30)},
    )
    yield Hot("a type", "the first use of a version in a process", types.GET_TYPE, one)
    put = {**one, "body": "{}"}
    yield Hot("put a type", "PUT: register a type, or change it", types.PUT_TYPE_IF_ROOM, put, writes=True)
    yield Hot("delete a type", "DELETE: delete a type", types.DELETE_TYPE_IF_THERE, one, writes=True)
    for name, domains in (("types", []), ("types of a domain", ["shop"])):
        page = {"tenant": TENANT, "after": "shop.order.1", "limit": _PAGE, "domains": domains}
        yield Hot(name, "GET: a page of the catalogue", types.TYPES_AFTER, page)

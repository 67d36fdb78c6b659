"""What a digest becomes when it closes: one notification whose `data.items` are its entries. Pure, but for its id.

What is listed fits into what `data` may be, and is in the order in which it came; `more` says how much is left out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import uuid_utils

from models.fields import MAX_DATA_BYTES
from models.frames import dumps
from models.locales import canonical, choose_locale
from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.database import Row

MOST_ITEMS = 50
_AROUND_ITEMS = 100  # bytes of `data` that are not items
_CUT: dict[str, Any] = {"body": "", "data": {}, "action_url": None, "actor": None}


@dataclass(frozen=True, slots=True)
class Composed:
    """An open digest, as `READ_DIGESTS` found it, and the notification that it becomes; None: nothing is left of it."""

    digest: Row
    count: int
    notification: dict[str, Any] | None

    @property
    def priority(self) -> Priority | None:
        """How urgent that notification is."""
        return Priority.of_rank(self.notification["priority"]) if self.notification else None

    def row(self) -> dict[str, Any]:
        """Return it as `CLOSE` takes it."""
        return {"digest_id": self.digest["digest_id"], **(self.notification or {})}


def compose(rows: Iterable[Row]) -> list[Composed]:
    """Compose what each digest becomes, from the rows of `READ_DIGESTS`."""
    return [_composed(list(entries)) for _, entries in itertools.groupby(rows, key=lambda row: row["digest_id"])]


def _composed(entries: Sequence[Row]) -> Composed:
    newest = entries[-1]
    if newest["id"] is None:
        return Composed(newest, 0, None)
    count = newest["count"]
    items = _items(entries[:MOST_ITEMS])
    notification = {
        "id": str(uuid_utils.uuid7()),
        "tenant": newest["tenant"],
        "type": newest["type"],
        "domain": newest["domain"],
        "priority": newest["most_urgent"],
        "audience": {"user": newest["user_id"]},
        "data": {"items": items, "count": count, "more": count - len(items)},
        "expires_at": newest["last_expires_at"],
        **{name: newest[name] for name in ("title", "body", "texts", "mutable", "action_url", "actor")},
    }
    return Composed(newest, count, notification)


def _items(entries: Sequence[Row]) -> list[dict[str, Any]]:
    left = MAX_DATA_BYTES - _AROUND_ITEMS
    items: list[dict[str, Any]] = []
    for entry in entries:
        item = _item(entry)
        size = len(dumps(item)) + 1
        if size > left and not items:  # one that fills it alone is listed by its title: nobody is told of nothing
            item = {**item, **_CUT}
            size = len(dumps(item)) + 1
        if size > left:
            break
        left -= size
        items.append(item)
    return items


def _item(entry: Mapping[str, Any]) -> dict[str, Any]:
    texts = entry["texts"] or {}
    locale = choose_locale(canonical(entry["locale"] or ""), texts) if texts else None
    said = texts[locale] if locale is not None else entry
    return {
        "id": entry["id"],
        "title": said["title"],
        "body": said["body"],
        "data": orjson.Fragment(entry["data"]),  # as it was sent
        **{name: entry[name] for name in ("action_url", "actor", "created_at")},
    }

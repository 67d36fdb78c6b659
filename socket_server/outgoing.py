"""A connection's queue of packets that its client has not read yet: it knows how much that is.

It refuses nothing, because Engine.IO puts its own packets here too; whoever pushes asks first whether there is room.
"""

from __future__ import annotations

import asyncio
from typing import Any

MOST_PACKETS = 256
MOST_BYTES = 1024 * 1024


class Outgoing(asyncio.Queue[Any]):
    """An `asyncio.Queue` of Engine.IO packets (None ends the writer) that counts their characters."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting_bytes = 0

    def _put(self, item: Any) -> None:  # noqa: ANN401  # the library's packets have no type
        super()._put(item)
        self.waiting_bytes += _size(item)

    def _get(self) -> Any:  # noqa: ANN401
        item = super()._get()
        self.waiting_bytes -= _size(item)
        return item

    def full_to(self, share: float) -> bool:
        """Return whether more than `share` (0 to 1) of what may wait is waiting."""
        return self.qsize() >= MOST_PACKETS * share or self.waiting_bytes >= MOST_BYTES * share


def _size(item: Any) -> int:  # noqa: ANN401
    return len(item.data) if item is not None and isinstance(item.data, str | bytes) else 0

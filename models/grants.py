"""What a token lets its holder join and watch. Pure.

A grant is a name, or ends in `*`, which stands for any rest: `shop:order:*` grants `shop:order:42`. Case matters. A `*`
anywhere else grants nothing, because no name has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY = "*"


def covers(grant: str, name: str) -> bool:
    """Say whether one grant is for this name."""
    return name.startswith(grant[:-1]) if grant.endswith(ANY) else name == grant


def granted(grants: Iterable[str], name: str) -> bool:
    """Say whether one of the grants is for this name."""
    return any(covers(grant, name) for grant in grants)

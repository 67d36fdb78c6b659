"""`nodes`: what a notification costs with two, four and eight socket nodes, each against a stack that has one.

The same users are spread over the nodes. Eight nodes on two cores show what the engine does for each node, and not
what eight machines could do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.bench.pairs import Side, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.facts import Facts
    from ops.bench.lab import Lab

NAME = "nodes"
_BOUNDS = {2: None, 4: None, 8: 1.2}  # by the number of nodes: of what one node takes


def run(lab: Lab) -> Iterator[Facts]:
    """Compare one number of nodes after the other with the same base."""
    with lab.stack() as one:
        lab.warm_up(one)
        base = Side(one, lab.users, lab.prefix(), {"users": lab.users, "nodes": 1})
        for nodes, most in _BOUNDS.items():
            with lab.stack(nodes) as several:
                lab.warm_up(several)
                grown = Side(several, lab.users, lab.prefix(), {**base.about, "nodes": nodes})
                yield from compare(lab, f"{NAME}-{nodes}", base, grown, most)

"""Where each scenario is measured that has stacks of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.bench import connections, depth, fan_out, growth, nodes, rooms, storm, under_load, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ops.bench.facts import Facts
    from ops.bench.lab import Lab

MEASURED_BY: dict[str, Callable[[Lab], Iterator[Facts]]] = {
    under_load.NAME: under_load.run,
    fan_out.NAME: fan_out.run,
    depth.NAME: depth.run,
    connections.NAME: connections.run,
    storm.NAME: storm.run,
    growth.NAME: growth.run,
    nodes.NAME: nodes.run,
    rooms.NAME: rooms.run,
    wording.NAME: wording.run,
}

"""How `make test` spreads the tests over processes, each of which has servers of its own. A plugin beside xdist.

The tests of a file stay together and in their order. Those that start whole engines are one piece: an engine can use
all of a small machine, so there is one at a time. That piece is the longest, and comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    import pytest

ENGINES = (
    "tests/test_journey.py",
    "tests/crash_points/",
    "tests/ops/test_bench_runs.py",
    "tests/ops/test_demo_runs.py",
    "tests/ops/test_prove_runs.py",
)


class ByFileAndEnginesTogether(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return "engines" if nodeid.startswith(ENGINES) else super()._split_scope(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(ENGINES))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return ByFileAndEnginesTogether(config, log)

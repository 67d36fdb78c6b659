"""The crashes themselves: they happen where they were armed, once, and never silently nowhere."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.crash_points import launch
from tests.crash_points.engine import ROOT
from tests.crash_points.fuse import Fuse
from tests.crash_points.points import PROGRAMS, NoSuchPointError, Point, before

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "target",
    ["workers.no_such_module:dispatch", "workers.tasks:no_such_function", "models.push:NoSuchClass.publish"],
)
def test_a_point_that_the_product_does_not_have_stops_the_program(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROGRAMS, "worker", {"gone": Point(target, before)})
    with pytest.raises(NoSuchPointError, match=target):
        launch.main("worker", str(tmp_path), "a_module_that_is_never_reached")


def test_of_all_that_reach_an_armed_point_one_dies(tmp_path: Path) -> None:
    test, one, another = (Fuse(tmp_path, "point") for _ in range(3))
    assert not one.lit(), "nobody armed it"
    test.arm()
    assert [one.lit(), another.lit(), one.lit()] == [True, False, False]
    test.arm(passing=2)
    assert [one.lit(), another.lit(), one.lit(), another.lit()] == [False, False, True, False]
    test.arm(passing=1)
    test.disarm()
    assert not one.lit()
    test.arm()
    assert one.lit(), "what an earlier one let pass counts no more"


def test_it_dies_by_the_signal_that_cannot_be_caught_and_says_what_it_saw(tmp_path: Path) -> None:
    fuse = Fuse(tmp_path, "point")
    fuse.arm()
    code = (
        "import sys; from pathlib import Path; from tests.crash_points.fuse import Fuse\n"
        "fuse = Fuse(Path(sys.argv[1]), 'point')\n"
        "try:\n    fuse.lit() and fuse.die(how='well')\nfinally:\n    print('cleaned up')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False, capture_output=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
    assert fuse.fired is not None
    assert fuse.fired["how"] == "well"

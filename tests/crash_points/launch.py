"""`python -m tests.crash_points.launch PROGRAM DIRECTORY MODULE ARGUMENTS…`: run a module that can die at its points.

Everything is put in place before the module runs, so that it also holds in the processes that it forks.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from tests.crash_points.fuse import Fuse
from tests.crash_points.points import PROGRAMS


def main(program: str, directory: str, module: str, *arguments: str) -> None:
    """Become `python -m module arguments…`. Raises `NoSuchPointError` where the product has changed."""
    for name, point in PROGRAMS[program].items():
        point.install(Fuse(Path(directory), name))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

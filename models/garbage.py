"""How Python's collector is kept off the hot path.

A full collection walks every object that is alive: some 65 ms of standstill for the API's modules, routes and schemas,
twice a second under load, and nothing found. What exists once a process has started stays until it ends.
"""

from __future__ import annotations

import gc

_NEW_OBJECTS = 10_000  # between two young collections; a request leaves some hundreds behind


def spare_what_exists() -> None:
    """Leave all that is alive now out of every later collection. To be called once, when a process is ready to work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)

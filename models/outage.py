"""Something that fails again and again is said once when it begins, and once when it is over."""

from __future__ import annotations

import time
from typing import Any


class Outage:
    """One thing that may fail for a while. `event` is what the log says of it."""

    def __init__(self, log: Any, event: str) -> None:  # noqa: ANN401  # structlog's loggers have no type to name
        self._log = log
        self._event = event
        self._since: float | None = None  # monotonic

    def goes_on(self, error: BaseException | None = None, **context: object) -> None:
        """Note that it failed, perhaps not for the first time."""
        if error is not None:
            context["error"] = str(error) or type(error).__name__
        if self._since is None:
            self._since = time.monotonic()
            self._log.warning(self._event, **context)
        else:
            self._log.debug(self._event, **context)

    def is_over(self) -> None:
        """Note that it worked."""
        if self._since is not None:
            self._log.info(f"over: {self._event}", lasted_s=round(time.monotonic() - self._since, 1))
            self._since = None

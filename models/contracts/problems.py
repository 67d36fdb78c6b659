"""How a request that went wrong is answered."""

from __future__ import annotations

from models.contracts.base import Answer


class ErrorItem(Answer):
    """One wrong value of a request."""

    pointer: str
    """A JSON pointer into the body; `?name` of a parameter; empty: the whole."""
    code: str
    """Stable, for programs."""
    detail: str
    """For people."""


class Problem(Answer):
    """RFC 9457 problem details, with a stable `code`."""

    type: str
    title: str
    status: int
    detail: str
    """What to do."""
    code: str
    """Stable, for programs."""
    request_id: str
    """That of the answer's `X-Request-Id`, to look for in the logs."""
    errors: list[ErrorItem] | None = None
    """Each wrong value of a `validation_failed`."""

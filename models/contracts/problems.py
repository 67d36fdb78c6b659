"""How a request that went wrong is answered."""

from __future__ import annotations

from models.contracts.base import Answer


class ErrorItem(Answer):
    """One wrong value of a request."""

    pointer: str
    code: str
    detail: str


class Problem(Answer):
    """RFC 9457 problem details, with a stable `code`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ErrorItem] | None = None

"""Every error that leaves the server: a stable code, a status, a title. Rendered in one place per protocol.

REST shows them as RFC 9457 problems, sockets as `{code, detail}`. A detail says what to do and never holds SQL, a
stack trace or a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong input value. `pointer` is a JSON pointer into the request's body, or `?name` / `header` for others."""

    pointer: str
    code: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        """Return the wire form."""
        return {"pointer": self.pointer, "code": self.code, "detail": self.detail}


def _summary(errors: tuple[FieldError, ...]) -> str:
    if not errors:
        return ""
    others = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return f"{errors[0].pointer}: {errors[0].detail}{others}" if errors[0].pointer else f"{errors[0].detail}{others}"


class BellhopError(Exception):
    """Base of all refusals. Subclasses fix `status`, `code` and `title`; instances say the `detail`."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong on the server"
    on_sockets: ClassVar[bool] = False  # whether sockets, too, are refused with it

    def __init__(
        self,
        detail: str = "",
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        self.detail = detail or _summary(errors) or self.title
        super().__init__(self.detail)
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.extra = extra or {}
        self.headers: dict[str, str] = {}  # of the answer over HTTP

    def as_socket_error(self) -> dict[str, object]:
        """Return `{code, detail}`, with anything the code promises besides."""
        return {"code": self.code, "detail": self.detail, **self.extra}


class ValidationFailedError(BellhopError):
    status, code, title = 422, "validation_failed", "The request has wrong values"
    on_sockets = True


class InvalidJsonError(BellhopError):
    status, code, title = 400, "invalid_json", "The body is not valid JSON"


class UnsupportedMediaTypeError(BellhopError):
    status, code, title = 415, "unsupported_media_type", "The content type is not supported"


class PayloadTooLargeError(BellhopError):
    status, code, title = 413, "payload_too_large", "The body is too large"


class IdempotencyMismatchError(BellhopError):
    status, code, title = 422, "idempotency_mismatch", "The idempotency key was used with another body"


class UnauthorizedError(BellhopError):
    status, code, title = 401, "unauthorized", "A valid API key is needed"


class TokenInvalidError(BellhopError):
    status, code, title = 401, "token_invalid", "The user token is not valid"
    on_sockets = True


class TokenExpiredError(BellhopError):
    status, code, title = 401, "token_expired", "The user token has expired"
    on_sockets = True


class TokenRevokedError(BellhopError):
    status, code, title = 401, "token_revoked", "The user token was issued before its user was disconnected"
    on_sockets = True


class ForbiddenError(BellhopError):
    status, code, title = 403, "forbidden", "The API key may not do this"


class NotFoundError(BellhopError):
    status, code, title = 404, "not_found", "There is nothing here"


class TenantExistsError(BellhopError):
    status, code, title = 409, "tenant_exists", "There is a tenant of this name"


class TenantNotEmptyError(BellhopError):
    status, code, title = 409, "tenant_not_empty", "The tenant still has data"


class DefaultTenantError(BellhopError):
    status, code, title = 409, "default_tenant", "The default tenant is the system's"


class TooManyTypesError(BellhopError):
    status, code, title = 409, "too_many_types", "The tenant has as many types as it may have"


class MethodNotAllowedError(BellhopError):
    status, code, title = 405, "method_not_allowed", "The method is not allowed here"


class UnavailableError(BellhopError):
    status, code, title = 503, "unavailable", "Something that is needed cannot be reached; try again"
    on_sockets = True

    def __init__(self, detail: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class RateLimitedError(BellhopError):
    status, code, title = 429, "rate_limited", "Too many events"
    on_sockets = True

    def __init__(self, detail: str = "", *, retry_in_ms: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail, retry_after_s=-(-retry_in_ms // 1000), extra={"retry_in_ms": retry_in_ms})
        self.headers = headers or {}


class OutboxFullError(BellhopError):
    status, code, title = 429, "outbox_full", "Too many notifications wait already"


class SocketOnlyError(BellhopError):
    """Base of what only a socket is refused with."""

    on_sockets = True


class MessageTooLargeError(SocketOnlyError):
    status, code, title = 413, "message_too_large", "The socket message is too large"


class UnknownEventError(SocketOnlyError):
    status, code, title = 404, "unknown_event", "There is no such event"


class AckAheadError(SocketOnlyError):
    status, code, title = 409, "ack_ahead", "That number was not sent on this connection"


class WrongUserError(SocketOnlyError):
    status, code, title = 403, "wrong_user", "The token is another user's or another tenant's"


class TooManySocketsError(SocketOnlyError):
    status, code, title = 409, "too_many_sockets", "The user has as many sockets open as they may have"


class NotGrantedError(SocketOnlyError):
    status, code, title = 403, "not_granted", "The user token does not grant this"


class TooManyRoomsError(SocketOnlyError):
    status, code, title = 409, "too_many_rooms", "The connection is in as many rooms as it may be in"


class TooManyWatchedError(SocketOnlyError):
    status, code, title = 409, "too_many_watched", "The connection watches as many users as it may"


class RoomResetError(SocketOnlyError):
    status, code, title = 410, "room_reset", "What comes next in this room is no longer kept"


class SlowConsumerError(SocketOnlyError):
    status, code, title = 408, "slow_consumer", "The client does not read what it is sent; the connection is closed"


def rest_errors() -> list[type[BellhopError]]:
    """Every error class that REST may answer, for the documentation and its test."""
    return [BellhopError, *(error for error in BellhopError.__subclasses__() if error is not SocketOnlyError)]


def socket_errors() -> list[type[BellhopError]]:
    """Every error class that sockets may be refused with, by code."""
    known = [*BellhopError.__subclasses__(), *SocketOnlyError.__subclasses__()]
    return sorted((error for error in known if error.on_sockets and error is not SocketOnlyError), key=_code)


def _code(error: type[BellhopError]) -> str:
    return error.code

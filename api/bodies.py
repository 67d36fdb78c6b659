"""Request bodies: bounded while they are read, parsed strictly, explained with JSON pointers when they are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from models.errors import (
    FieldError,
    InvalidJsonError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    ValidationFailedError,
)
from models.fields import MAX_BODY_BYTES, MAX_LINE_BYTES, explained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fastapi import Request

Body = TypeVar("Body", bound=BaseModel)

JSON = "application/json"
NDJSON = "application/x-ndjson"
_LONGEST_KEY = 255


def media_type(request: Request, allowed: Sequence[str]) -> str:
    """Return the body's media type, which is the first of `allowed` where none is named. Raises for any other."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower() or allowed[0]
    if given not in allowed:
        detail = f"Send the body with Content-Type: {' or '.join(allowed)}, not {given[:100]}"
        raise UnsupportedMediaTypeError(detail)
    return given


async def read(request: Request, limit: int) -> bytes:
    """Return the body. Raises `PayloadTooLargeError` as soon as it is known to pass `limit` bytes."""
    too_large = PayloadTooLargeError(f"The body may have at most {limit} bytes; send less at once")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


async def lines(request: Request) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the lines of a body that is not empty, with their numbers, as they come.

    Raises `PayloadTooLargeError` at a line of more than `MAX_LINE_BYTES`.
    """
    number, rest = 0, b""
    async for chunk in request.stream():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield number, line
        if len(rest) > MAX_LINE_BYTES:
            detail = f"Line {number + 1} has more than {MAX_LINE_BYTES} bytes; put each object on a line of its own"
            raise PayloadTooLargeError(detail)
    if rest.strip():
        yield number + 1, rest


def parse_json(raw: bytes) -> Any:  # noqa: ANN401  # JSON is anything
    """Return the parsed JSON. Raises `InvalidJsonError`."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        detail = f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise InvalidJsonError(detail) from error


def validate(model: type[Body], value: object) -> Body:
    """Return `value` as a `model`. Raises `ValidationFailedError` with a pointer for each wrong value."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValidationFailedError(
            errors=field_errors(error.errors(include_url=False, include_input=False))
        ) from error


async def json_body(request: Request, model: type[Body], limit: int = MAX_BODY_BYTES) -> Body:
    """Read, parse and validate a JSON body."""
    media_type(request, [JSON])
    return validate(model, parse_json(await read(request, limit)))


def idempotency_key(request: Request) -> str | None:
    """Return the Idempotency-Key header. Raises `ValidationFailedError` where it is not a usable one."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
        wrong = FieldError("", "bad_idempotency_key", f"Idempotency-Key must have 1 to {_LONGEST_KEY} ASCII characters")
        raise ValidationFailedError(errors=(wrong,))
    return key


def _place(error: Any) -> tuple[int | str, ...]:  # noqa: ANN401  # as Pydantic has it
    """Return where an error is. Pydantic marks a wrong name within an object, for which JSON pointers have no word."""
    place: tuple[int | str, ...] = error["loc"]
    return place[:-1] if place[-1:] == ("[key]",) else place


def field_errors(errors: Sequence[Any], start: int = 0) -> tuple[FieldError, ...]:
    """Return Pydantic's errors with JSON pointers; `start` leaves out leading parts of the location."""
    return tuple(
        FieldError(
            "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in _place(error)[start:]),
            error["type"],
            explained(error),
        )
        for error in errors[:50]
    )

"""Every error of the REST API becomes `application/problem+json` here, and nowhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
import uuid_utils
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from api.bodies import field_errors
from models.errors import (
    BellhopError,
    FieldError,
    InvalidJsonError,
    MethodNotAllowedError,
    NotFoundError,
    UnauthorizedError,
    ValidationFailedError,
)
from models.frames import dumps

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

PROBLEM = "application/problem+json"
_REQUEST_ID = "x-request-id"
_LONGEST_ID = 128


def render(error: BellhopError, request_id: str) -> Response:
    """Return an error as RFC 9457 problem details."""
    body: dict[str, Any] = {
        "type": f"urn:bellhop:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    if error.errors:
        body["errors"] = [wrong.as_dict() for wrong in error.errors]
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == UnauthorizedError.status:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(dumps(body), error.status, headers, PROBLEM)


def _request_id(request: Request) -> str:
    return str(request.scope.get("bellhop.request_id", ""))


async def _on_bellhop_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BellhopError)  # noqa: S101  # registered for this class only
    return render(error, _request_id(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class only
    path = request.url.path
    if error.status_code == NotFoundError.status:
        mapped: BellhopError = NotFoundError(f"There is nothing at {path}; /docs lists every path")
    elif error.status_code == MethodNotAllowedError.status:
        allowed = ", ".join(_methods_at(request))
        mapped = MethodNotAllowedError(f"{request.method} is not allowed at {path}; use {allowed}")
        mapped.headers["Allow"] = allowed
    else:
        mapped = ValidationFailedError(str(error.detail))
    return render(mapped, _request_id(request))


def _methods_at(request: Request) -> list[str]:
    """Return the methods of all routes at this path; the exception knows those of the first."""
    routes = request.app.router.routes
    there = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    return sorted({method for route in there for method in route.methods or ()})


async def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class only
    found = error.errors()
    if any(wrong["type"] == "json_invalid" for wrong in found):
        return render(InvalidJsonError(), _request_id(request))
    wrongs = tuple(
        FieldError(
            f"?{'/'.join(str(part) for part in wrong['loc'][1:])}" if wrong["loc"][0] == "query" else plain.pointer,
            plain.code,
            plain.detail,
        )
        for wrong, plain in zip(found, field_errors(found, start=1), strict=False)
    )
    return render(ValidationFailedError(errors=wrongs), _request_id(request))


def install(app: FastAPI) -> None:
    """Make `app` answer every error as a problem."""
    app.add_exception_handler(BellhopError, _on_bellhop_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_middleware(RequestMiddleware)


class RequestMiddleware:
    """Gives each request its id, in the answer and in all its log lines, and turns unforeseen errors into a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or str(uuid_utils.uuid7())
        scope["bellhop.request_id"] = request_id
        status = 0
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_REQUEST_ID.encode(), request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                log.debug("the client went away before its request was complete", path=scope["path"])
                return
            except Exception:
                log.exception("unforeseen error", method=scope["method"], path=scope["path"])
                if status:
                    raise
                await render(BellhopError(), request_id)(scope, receive, send_with_id)
            took = round((time.perf_counter() - started) * 1000, 2)
            note = log.debug if status < 400 else log.info  # noqa: PLR2004  # the first error status
            note("request", method=scope["method"], path=scope["path"], status=status, ms=took)


def _given_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _REQUEST_ID.encode():
            text = value.decode("latin-1")
            return text if len(text) <= _LONGEST_ID and text.isascii() and text.isprintable() else ""
    return ""

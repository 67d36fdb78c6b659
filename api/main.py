"""The API's composition root: settings in, application out."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from prometheus_fastapi_instrumentator import Instrumentator, metrics

from api import (
    digests,
    errors,
    health,
    inbox,
    keys,
    listing,
    notifications,
    openapi,
    preferences,
    recipients,
    rooms,
    socket_docs,
    tenants,
    topics,
    types,
    users,
)
from api.resources import Resources
from models import telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from models.settings import Settings

_DESCRIPTION = """Tell this user, or these users, that this happened, and how urgent it is.
Bellhop gets it to every device of every one of them, in order and without a gap.

What devices and Bellhop say to each other on sockets is at [/docs/sockets](/docs/sockets), and for programs at
[/asyncapi.json](/asyncapi.json)."""


@cache
def _request_metrics() -> Callable[[metrics.Info], None]:
    """Return what measures requests: once for a process, because its registry takes a name only once."""
    measure = metrics.latency(buckets=telemetry.LATENCY_BUCKETS)
    assert measure is not None  # noqa: S101  # None stands for a name that is taken
    return measure


def create_app(settings: Settings) -> FastAPI:
    """Build the application; connects to nothing before its lifespan starts."""
    resources = Resources.build(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await resources.open()
        yield
        await resources.close()

    app = FastAPI(
        title="Bellhop",
        version="0.1.0",
        description=_DESCRIPTION,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.resources = resources
    modules = (
        *(notifications, listing, inbox, preferences, topics, types, rooms, users, recipients, digests),
        *(keys, tenants, health, socket_docs),
    )
    for module in modules:
        app.router.routes.extend(module.router.routes)  # `include_router` would look each request up level by level
    openapi.install(app)
    errors.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-Request-Id"],
            expose_headers=[
                "ETag",
                "Idempotent-Replayed",
                "RateLimit",
                "RateLimit-Policy",
                "Retry-After",
                "X-Request-Id",
            ],
        )
    instrumentator = Instrumentator(excluded_handlers=["/metrics", "/health/.*"])
    instrumentator.add(_request_metrics())
    instrumentator.instrument(app).expose(app, endpoint="/metrics", include_in_schema=False)
    return app

"""`/health`: alive says that the process answers; ready says that it can do its work."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from api.bodies import JSON
from api.resources import Held
from models.errors import UnavailableError
from models.frames import dumps

router = APIRouter(prefix="/health", tags=["health"])


def _example(answer: dict[str, Any]) -> dict[str, Any]:
    return {"content": {JSON: {"example": answer}}}


@router.get("/live", summary="Is the process alive?", responses={200: _example({"status": "ok"})})
async def live() -> Response:
    """Answer without asking anyone."""
    return Response(dumps({"status": "ok"}), media_type=JSON)


@router.get(
    "/ready",
    summary="Can it work?",
    responses={
        200: _example({"status": "ok", "parts": {"postgres": "ok", "redis": "ok"}}),
        503: {"description": "The failing part is named"}
        | _example({"status": "failing", "parts": {"postgres": "unreachable", "redis": "ok"}}),
    },
)
async def ready(held: Held) -> Response:
    """Needs Postgres. Redis only makes it fast: without it the API still accepts, and says so here."""
    parts = {"postgres": "ok", "redis": "ok"} | ({"bus": "ok"} if held.settings.bus_url else {})
    try:
        await held.database.check()
    except UnavailableError:
        parts["postgres"] = "unreachable"
    for name in parts.keys() - {"postgres"}:
        try:
            await (held.bus if name == "bus" else held.redis).ping()
        except Exception as error:  # noqa: BLE001  # whatever keeps Redis from answering is the answer here
            parts[name] = f"unreachable ({type(error).__name__}); notifications are accepted and arrive later"
    if held.dead_tasks:
        parts["tasks"] = f"dead: {', '.join(held.dead_tasks)}; restart this process"
    healthy = parts["postgres"] == "ok" and not held.dead_tasks
    return Response(
        dumps({"status": "ok" if healthy else "failing", "parts": parts}), 200 if healthy else 503, media_type=JSON
    )

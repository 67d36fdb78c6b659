"""The service around the endpoints: health, problems, metrics, CORS, the OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from api.main import create_app
from models.errors import rest_errors
from models.settings import Settings
from tests.api.test_notifications import problem
from tests.conftest import SECRET, notification, running_api

if TYPE_CHECKING:
    import httpx
    import pytest

    from models.database import Connection


async def test_unknown_paths_and_methods_are_problems(anonymous: httpx.AsyncClient) -> None:
    assert problem(await anonymous.get("/nowhere"))["code"] == "not_found"
    response = await anonymous.delete("/v1/notifications")
    assert (response.status_code, problem(response)["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, POST"
    assert problem(response)["detail"] == "DELETE is not allowed at /v1/notifications; use GET, POST"


async def test_unforeseen_errors_are_problems_that_tell_nothing(
    backend: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode(*_: object) -> Any:
        raise RuntimeError("SELECT secret FROM somewhere")

    monkeypatch.setattr("api.ingest.Ingest.accept", explode)
    response = await backend.post("/v1/notifications", json=notification())
    assert (response.status_code, problem(response)["code"]) == (500, "internal_error")
    assert "secret" not in response.text


async def test_a_given_request_id_comes_back(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/health/live", headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    response = await anonymous.get("/health/live", headers={"x-request-id": "x" * 500})
    assert len(response.headers["x-request-id"]) == 36


async def test_ready_names_the_failing_part(anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get("/health/ready")
    assert (response.status_code, response.json()["parts"]) == (200, {"postgres": "ok", "redis": "ok"})


async def test_without_postgres_it_answers_503_and_says_when_to_come_back(redis_url: str) -> None:
    settings = Settings(
        database_url="postgresql://nobody:x@127.0.0.1:1/none",
        redis_url=redis_url,
        secret_key=SECRET,  # type: ignore[arg-type]
    )
    async with running_api(settings) as client:
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["parts"]["postgres"]) == (503, "unreachable")
        key = f"bh_{'0' * 16}_{'x' * 43}"
        response = await client.post(
            "/v1/notifications", json=notification(), headers={"authorization": f"Bearer {key}"}
        )
    assert (response.status_code, problem(response)["code"]) == (503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1


async def test_an_insert_that_postgres_cannot_take_answers_503_and_leaves_nothing(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    assert (await backend.get("/v1/keys")).status_code == 200  # the key is known for a second
    with connection.transaction():
        connection.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")  # past the lock timeout of five seconds
        response = await backend.post("/v1/notifications", json=notification())
    assert (response.status_code, problem(response)["code"]) == (503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1
    for table in ("notification", "outbox"):
        assert connection.execute(f"SELECT count(*) AS n FROM {table}").fetchone() == {"n": 0}, table


async def test_without_redis_it_still_accepts(database_url: str, api_key: str) -> None:
    settings = Settings(
        database_url=database_url,
        redis_url="redis://127.0.0.1:1/0",
        secret_key=SECRET,  # type: ignore[arg-type]
    )
    async with running_api(settings) as client:
        headers = {"authorization": f"Bearer {api_key}"}
        assert (await client.post("/v1/notifications", json=notification(), headers=headers)).status_code == 202
        ready = await client.get("/health/ready")
    assert ready.status_code == 200
    assert "unreachable" in ready.json()["parts"]["redis"]


async def test_metrics_count_what_was_accepted(backend: httpx.AsyncClient) -> None:
    def counted(text: str, series: str) -> float:
        found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    accepted = 'bellhop_notifications_accepted_total{priority="low"}'
    requests = 'http_request_duration_seconds_count{handler="/v1/notifications",method="POST",status="2xx"}'
    before = (await backend.get("/metrics")).text
    await backend.post("/v1/notifications", json=notification(priority="low"))
    after = (await backend.get("/metrics")).text
    for series in (accepted, requests):
        assert counted(after, series) == counted(before, series) + 1, series


async def test_cors_follows_the_setting(settings: Settings) -> None:
    allowed = settings.model_copy(update={"cors_origins": ("https://app.example",)})
    headers = {"origin": "https://app.example", "access-control-request-method": "GET"}
    async with running_api(allowed) as client:
        assert (await client.options("/v1/inbox", headers=headers)).headers["access-control-allow-origin"]
        other = await client.options("/v1/inbox", headers={**headers, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_openapi_resolves_and_documents_every_code(settings: Settings) -> None:
    document = create_app(settings).openapi()
    text = str(document)
    for name in _references(document):
        assert name in document["components"]["schemas"], name
    assert document["components"]["schemas"]["NotificationIn"]["example"]["to"] == {"user": "u_1"}
    rest = {error.code for error in rest_errors()} - {"rate_limited", "internal_error", "method_not_allowed"}
    assert {code for code in rest if code not in text} == set()


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node)) if node else set()
    return set()

"""How much the API takes in: what a key may send, what the workers can do, and a word on when to come again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from models.keys import create_key
from models.states import Priority
from tests.api.test_notifications import BULK, ONE, problem
from tests.conftest import notification, running_api

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings

ROOM = "/v1/rooms/shop:order:42/events"
EVENT = {"event": "order.updated"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"ingest_per_s": 1.0, "outbox_limit": 5})


def left(response: httpx.Response) -> int:
    assert response.headers["ratelimit-policy"] == '"ingest";q=10;w=10'
    found = re.fullmatch(r'"ingest";r=(\d+);t=(\d+)', response.headers["ratelimit"])
    assert found
    assert 0 <= int(found[2]) <= 10
    return int(found[1])


async def test_a_key_may_send_so_much_and_is_told_what_is_left(backend: httpx.AsyncClient) -> None:
    assert left(await backend.post(ONE, json=notification(priority="high"))) == 9
    assert left(await backend.post(ROOM, json=EVENT)) == 8
    assert left(await backend.post(BULK, json={"notifications": [notification()] * 3})) == 5
    for expected in range(4, -1, -1):
        assert left(await backend.post(ROOM, json=EVENT)) == expected
    with capture_logs() as log_entries:
        refusals = (
            await backend.post(ONE, json=notification()),
            await backend.post(ROOM, json=EVENT),
            await backend.post(BULK, json={"notifications": [notification()]}),
        )
    assert [entry["tenant"] for entry in log_entries if entry["log_level"] == "warning"] == ["default"]
    for refused in refusals:
        assert (refused.status_code, problem(refused)["code"]) == (429, "rate_limited")
        assert left(refused) == 0
        assert 1 <= int(refused.headers["retry-after"]) <= 10


async def test_a_bulk_that_does_not_fit_writes_nothing(backend: httpx.AsyncClient, connection: Connection) -> None:
    assert left(await backend.post(ROOM, json=EVENT)) == 9
    refused = await backend.post(BULK, json={"notifications": [notification()] * 10})
    assert (refused.status_code, problem(refused)["code"]) == (429, "rate_limited")
    assert "10" in refused.json()["detail"]
    assert connection.execute("SELECT count(*) AS n FROM notification").fetchall() == [{"n": 0}]
    assert left(await backend.post(ROOM, json=EVENT)) == 8


async def test_a_bulk_that_can_never_fit_is_not_asked_to_come_again(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    refused = await backend.post(BULK, json={"notifications": [notification()] * 11})
    body = problem(refused)
    assert (refused.status_code, body["code"], "retry-after" in refused.headers) == (422, "validation_failed", False)
    assert [(wrong["pointer"], wrong["code"]) for wrong in body["errors"]] == [("/notifications", "bulk_size")]
    assert "at most 10 at once" in body["detail"]
    assert connection.execute("SELECT count(*) AS n FROM notification").fetchall() == [{"n": 0}]
    assert left(await backend.post(BULK, json={"notifications": [notification()] * 10})) == 0  # nothing was charged


async def test_all_processes_count_together_and_each_key_for_itself(
    settings: Settings, backend: httpx.AsyncClient, database_url: str
) -> None:
    async with running_api(settings) as other:
        other.headers["authorization"] = backend.headers["authorization"]
        for nth in range(10):
            assert (await (backend, other)[nth % 2].post(ROOM, json=EVENT)).status_code == 202
        assert (await other.post(ROOM, json=EVENT)).status_code == 429
        _, key = create_key(database_url, tenant="default", scopes=["admin"], name="another")
        other.headers["authorization"] = f"Bearer {key}"
        assert (await other.post(ROOM, json=EVENT)).status_code == 202


async def test_without_redis_it_still_takes_in_and_limits(settings: Settings, api_key: str) -> None:
    alone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with running_api(alone) as api:
        api.headers["authorization"] = f"Bearer {api_key}"
        statuses = [(await api.post(ROOM, json=EVENT)).status_code for _ in range(13)]
        assert statuses[:10] == [202] * 10
        assert 429 in statuses[10:]  # the window slides: in a second of testing, one more may pass


async def test_no_limit_says_nothing_of_one(settings: Settings, api_key: str) -> None:
    async with running_api(settings.model_copy(update={"ingest_per_s": 0.0})) as api:
        api.headers["authorization"] = f"Bearer {api_key}"
        for _ in range(20):
            response = await api.post(ROOM, json=EVENT)
            assert (response.status_code, "ratelimit" in response.headers) == (202, False)


async def test_a_refusal_is_counted(backend: httpx.AsyncClient) -> None:
    def refusals(text: str) -> float:
        found = re.search(r'^bellhop_ingest_refusals_total\{code="rate_limited"\} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    await backend.post(ROOM, json=EVENT)
    before = refusals((await backend.get("/metrics")).text)
    await backend.post(BULK, json={"notifications": [notification()] * 10})
    assert refusals((await backend.get("/metrics")).text) == before + 10


# --- the outbox ------------------------------------------------------------------------------------------------------


def due(connection: Connection, how_many: int, priority: Priority, *, later: bool = False) -> None:
    connection.execute(
        "INSERT INTO outbox (notification_id, priority, due_at) "
        "SELECT gen_random_uuid(), %s, now() + %s * interval '1 h' FROM generate_series(1, %s)",
        (priority.rank, int(later), how_many),
    )


async def look(backend: httpx.AsyncClient) -> None:
    resources: Any = backend._transport.app.state.resources  # type: ignore[attr-defined]
    await resources.admission._backlog.look()


async def test_no_more_of_a_priority_is_accepted_than_can_wait(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    due(connection, 4, Priority.LOW)
    await look(backend)
    assert (await backend.post(ONE, json=notification(priority="low"))).status_code == 202
    await look(backend)
    refused = await backend.post(ONE, json=notification(priority="low"))
    assert (refused.status_code, problem(refused)["code"]) == (429, "outbox_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await backend.post(ONE, json=notification(priority="critical"))).status_code == 202
    items = [notification(priority=priority) for priority in ("low", "high", "low")]
    answer = (await backend.post(BULK, json={"notifications": items})).json()
    assert [result["status"] for result in answer["results"]] == ["rejected", "accepted", "rejected"]
    assert answer["results"][0]["error"]["code"] == "outbox_full"
    connection.execute("DELETE FROM outbox")
    await look(backend)
    assert (await backend.post(ONE, json=notification(priority="low"))).status_code == 202


async def test_what_is_to_be_delivered_later_does_not_count(backend: httpx.AsyncClient, connection: Connection) -> None:
    due(connection, 50, Priority.NORMAL, later=True)
    await look(backend)
    assert (await backend.post(ONE, json=notification())).status_code == 202

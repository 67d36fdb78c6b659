"""A notification that is old goes when nobody has it any more, and no sooner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from models.retention import KeptItems
from models.states import Priority
from tests.conftest import as_user, in_a_while, nobody, notification
from tests.workers.test_retain import DAY_S, keeping_little, pass_time, retain
from workers.resources import Resources
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return keeping_little(settings)


async def test_a_notification_that_waits_in_a_digest_is_kept_until_it_has_arrived(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    body = {"digest": {"every": "1h"}}
    assert (await backend.put("/v1/types/shop.order.shipped", json=body)).status_code == 200
    assert (await backend.post("/v1/notifications", json=notification())).status_code == 202
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    connection.execute("UPDATE notification SET created_at = created_at - interval '2 years'")
    retain(worker)
    assert connection.execute("SELECT count(*) AS n FROM digest_entry").fetchall() == [{"n": 1}]
    assert connection.execute("SELECT count(*) AS n FROM notification").fetchall() == [{"n": 1}]
    assert (await backend.post("/v1/users/u_1/digests/close")).status_code == 200
    connection.execute("UPDATE retention_round SET began_at = '-infinity', cursor = ''")
    retain(worker)
    assert connection.execute("SELECT count(*) AS n FROM digest_entry").fetchall() == [{"n": 0}]
    assert connection.execute("SELECT count(*) AS n FROM notification").fetchall() == [{"n": 1}]


async def test_a_notification_that_nobody_has_any_more_goes_when_it_is_old(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    async def send(**changes: Any) -> str:
        return str((await backend.post("/v1/notifications", json=notification(**changes))).json()["id"])

    mutes = {"mutes": {"domains": ["shop"]}}
    assert (await backend.put("/v1/preferences", json=mutes, headers=as_user("u_3"))).status_code == 200
    everybodys = await send(user="u_1", to={"users": ["u_1", "u_2"]})
    suppressed = await send(to={"user": "u_3"})
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    scheduled = await send(to={"user": "u_1"}, deliver_at=in_a_while())
    parked = await send(to={"user": "u_1"})
    connection.execute("DELETE FROM outbox WHERE notification_id = %s", (parked,))
    connection.execute("INSERT INTO parked VALUES (%s, 2, 5, 'no', now())", (parked,))

    def left() -> set[str]:
        return {row["id"] for row in connection.execute("SELECT id::text AS id FROM notification")}

    await asyncio.to_thread(retain, worker)
    assert left() == {everybodys, suppressed, scheduled, parked}, "young ones stay, whoever has them"
    await backend.delete("/v1/inbox/1", headers=as_user("u_1"))
    pass_time(connection, DAY_S - 60, said=True)
    await asyncio.to_thread(retain, worker)
    assert suppressed in left()
    pass_time(connection, 120, up_to=0, said=True)
    await asyncio.to_thread(retain, worker)
    assert left() == {everybodys, scheduled, parked}, "one of its two still has it"
    assert connection.execute("SELECT count(*) AS n FROM suppression").fetchall() == [{"n": 0}]
    assert (await backend.get(f"/v1/notifications/{suppressed}")).status_code == 404
    pass_time(connection, DAY_S, said=True)
    await asyncio.to_thread(retain, worker)
    assert left() == {scheduled, parked}
    assert (await backend.get(f"/v1/notifications/{scheduled}")).json()["status"] == "scheduled"


async def test_an_idempotency_key_is_remembered_for_a_day_however_little_is_kept(
    backend: httpx.AsyncClient, settings: Settings, connection: Connection
) -> None:
    worker = Resources.build(settings.model_copy(update={"inbox_retention": {"*": KeptItems(age_s=60)}}))
    key = {"idempotency-key": "once"}
    first = await backend.post("/v1/notifications", json=notification(), headers=key)
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    for age_s, again in ((DAY_S - 60, True), (120, False)):
        pass_time(connection, age_s, said=True)
        await asyncio.to_thread(retain, worker)
        response = await backend.post("/v1/notifications", json=notification(), headers=key)
        assert (response.json()["id"] == first.json()["id"]) is again
    worker.close()

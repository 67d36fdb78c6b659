"""The API dies while it erases a user. Whoever asked gets no answer, and asks again.

In between, an audit finds nothing; afterwards nothing is left of the user, and others have what they had.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from models.audit import audit
from models.database import connect
from tests.api.test_erasure import traces
from tests.conftest import in_a_while
from tests.crash_points.engine import PATIENCE_S
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.crash_points.conftest import Backend, Client
    from tests.crash_points.engine import Engine
    from tests.crash_points.truth import Truth

TYPE = "crash.erasure.gathered"
OUTBOX = "SELECT 1 FROM outbox WHERE due_at <= now() LIMIT 1"


@pytest.mark.parametrize(
    ("point", "passing"),
    [
        ("waiting forgotten", 0),
        ("digests erased", 0),  # in its transaction
        ("numbers erased", 1),  # in that of the inbox, which holds every dispatcher up
        ("inbox erased", 0),
    ],
)
async def test_killed_in_an_erasure_all_is_in_order_and_asking_again_leaves_nothing(  # a scene
    point: str,
    passing: int,
    engine: Engine,
    backend: Backend,
    truth: Truth,
    connected: Callable[..., Awaitable[Client]],
) -> None:
    gone = f"gone-{point}-{passing}".replace(" ", "-")
    stays = gone.replace("gone", "stays")
    phone = await connected(stays, engine.nodes[0])
    topic = f"crash:{stays}"
    await backend.done("PUT", f"/v1/types/{TYPE}", templates={"en": {"title": "One"}}, digest={"every": "1h"})
    await backend.done("PUT", f"/v1/topics/{topic}/subscribers", users=[stays, gone])
    await backend.done("PUT", f"/v1/users/{gone}/preferences", mutes={"domains": ["blog"]})
    both = {"users": [gone, stays]}
    for nth in range(3):
        await backend.send(gone, f"{stays}-{nth}")
        await backend.send(gone, f"{stays}-{nth}-both", to=both)
    for to in ({"user": gone}, both):
        await backend.done("POST", "/v1/notifications", to=to, type=TYPE)
    await backend.send(gone, f"{stays}-later", deliver_at=in_a_while())
    await phone.reach(3)
    await eventually(lambda: not truth.rows(OUTBOX), PATIENCE_S)

    engine.api.fuse(point).arm(passing=passing)
    asking = asyncio.create_task(backend.call("DELETE", f"/v1/users/{gone}"))
    await engine.api.killed(point)
    with pytest.raises(httpx.TransportError):
        await asyncio.wait_for(asking, PATIENCE_S)
    assert audit(engine.settings.database_url, 10).some == ()
    await engine.restart(engine.api)
    await backend.done("DELETE", f"/v1/users/{gone}")
    with connect(engine.settings.database_url) as connection:
        assert traces(connection, gone) == {"revocation"}
    await truth.adds_up()

    truth.run("UPDATE digest SET closes_at = now() WHERE closed_at IS NULL AND user_id = %s", stays)
    await phone.holds(backend, 4)
    assert len(phone.device.replica.items[4]["data"]["items"]) == 1
    await backend.send(gone, f"{stays}-anew", to=both)
    await phone.holds(backend, 5)
    await truth.adds_up()

"""Whatever retention removes, a copy that follows equals a fresh read: counts stay right, and no entry is missing."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.database import connect
from models.retention import KeptItems
from models.states import Action
from ops.prove.replica import Replica
from tests.models.test_log import arrive, fresh_read, store
from tests.workers.test_retain import DAY_S, keeping_little, pass_time, retain, seqs
from workers.resources import Resources

if TYPE_CHECKING:
    from models.inbox import InboxStore
    from models.settings import Settings

ARRIVE = st.tuples(st.just("arrive"), st.integers(1, 4))
ACT = st.tuples(st.sampled_from(list(Action)), st.lists(st.integers(1, 14), min_size=1, max_size=4))
RETAIN = st.tuples(st.just("retain"), st.integers(0, 20))  # when what stands up to this number has grown old
SYNC = st.tuples(st.just("sync"), st.just(0))
STEPS = st.lists(st.one_of(ARRIVE, ACT, RETAIN, SYNC), min_size=6, max_size=18)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return keeping_little(settings)


async def follow(inbox: InboxStore, user: str, replica: Replica, size: int) -> None:
    """Bring a client's copy to the head as the contract says: entry by entry, or by a list where that is a reset."""
    while True:
        page = await inbox.page("default", user, replica.seq, size)
        if page.reset:
            replica.items = {item["seq"]: item for item in await fresh_read(inbox, user)}  # type: ignore[misc]
            replica.seq = page.head
        elif page.last > replica.seq:
            replica.apply(orjson.loads(page.as_frame()))
        if replica.seq >= page.head:
            return


def untimed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say whether something was done, not when: `pass_time` changes what a copy may have been told already."""
    return [
        {**item, **{name: item[name] is not None for name in ("seen_at", "read_at", "archived_at")}} for item in items
    ]


@given(steps=STEPS, size=st.integers(1, 5), log_items=st.integers(1, 12))
@hypothesis_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
def test_whatever_is_removed_a_copy_that_follows_equals_a_fresh_read(
    settings: Settings, steps: list[tuple[object, Any]], size: int, log_items: int
) -> None:
    user = f"u_{uuid.uuid4().hex}"
    rules = {"*": KeptItems(items=log_items, age_s=DAY_S), "shop.*": KeptItems(items=6, age_s=DAY_S)}
    worker = Resources.build(settings.model_copy(update={"inbox_retention": rules}))

    async def scenario() -> None:
        with connect(settings.database_url) as connection:
            connection.execute("TRUNCATE inbox, delivery, inbox_change, notification")
            async with store(settings) as inbox:
                always, sometimes, never = Replica(), Replica(), Replica()
                for what, argument in [("arrive", 4), *steps]:
                    match what:
                        case "arrive":
                            arrive(connection, user, argument)
                        case "retain":
                            pass_time(connection, 2 * DAY_S, argument)
                            await asyncio.to_thread(retain, worker)
                        case "sync":
                            await follow(inbox, user, sometimes, size)
                        case _:
                            await inbox.act("default", user, [Action(str(what))], seqs=argument, up_to=None)
                    await follow(inbox, user, always, size)
                    truth = await fresh_read(inbox, user)
                    assert untimed(always.newest_first()) == untimed(truth)
                    head = await inbox.head(("default", user))
                    active = [item for item in truth if item["archived_at"] is None]
                    assert head.unread == sum(item["read_at"] is None for item in active)
                    assert head.unseen == sum(item["seen_at"] is None for item in active)
                for replica in (sometimes, never):
                    await follow(inbox, user, replica, size)
                    assert untimed(replica.newest_first()) == untimed(truth)
                kept = {*seqs(connection), *seqs(connection, "inbox_change")}
                assert kept >= set(range(head.floor + 1, head.head + 1)), "every number above the floor is there"
                assert seqs(connection, "inbox_change", f"seq <= {head.floor}") == []

    asyncio.run(scenario())
    worker.close()

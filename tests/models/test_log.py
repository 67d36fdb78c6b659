"""The log is exact: applying its entries from any point gives what a fresh read gives, and counters equal COUNT(*)."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import redis.asyncio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.inbox import _item
from models.contracts import InboxQuery, LogPage
from models.database import Database, connect
from models.inbox import InboxStore
from models.queries import ingest as ingest_sql
from models.states import Action, Cause, ListStatus, Priority
from ops.prove.replica import Replica
from workers.dispatch import dispatch_batch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from models.database import Connection
    from models.settings import Settings

ARRIVE = st.tuples(st.just("arrive"), st.integers(1, 3))
ACT_SEQS = st.tuples(st.sampled_from(list(Action)), st.lists(st.integers(1, 12), min_size=1, max_size=4))
ACT_UP_TO = st.tuples(st.sampled_from(list(Action)), st.integers(0, 30))
TAKE_BACK = st.tuples(st.sampled_from(list(Cause)), st.integers(0, 3))
STEPS = st.lists(st.one_of(ARRIVE, ACT_SEQS, ACT_UP_TO, TAKE_BACK), min_size=1, max_size=14)


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[InboxStore]:
    database = Database(settings.database_url, size=2)
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    await database.open()
    yield InboxStore(database, client)
    await client.aclose()
    await database.close()


def ingest(
    connection: Connection, user: str, how_many: int = 1, priority: Priority = Priority.NORMAL, body: str = ""
) -> list[str]:
    rows = [
        {
            "ord": nth,
            "id": str(uuid.uuid4()),
            "tenant": "default",
            "type": "shop.order.shipped",
            "domain": "shop",
            "priority": priority.rank,
            "title": "t",
            "body": body,
            "data": {"nth": nth},
            "audience": {"user": user},
        }
        for nth in range(how_many)
    ]
    connection.execute(ingest_sql.INSERT_IF_NEW, {"rows": orjson.dumps(rows).decode()})
    return [row["id"] for row in rows]


def arrive(connection: Connection, user: str, how_many: int = 1) -> None:
    ingest(connection, user, how_many)
    while dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5).claimed:
        pass


def take_back(connection: Connection, user: str, cause: Cause, which: int) -> None:
    """Withdraw one of the user's notifications, if they have so many."""
    queued = connection.execute(
        "WITH one AS ("
        "    SELECT d.notification_id AS id FROM delivery d JOIN inbox i ON i.id = d.inbox_id "
        "    WHERE i.user_id = %(user)s "
        "    ORDER BY d.seq OFFSET %(which)s LIMIT 1"
        "), begun AS ("
        "    INSERT INTO withdrawal (notification_id, cause) SELECT id, %(cause)s FROM one "
        "    ON CONFLICT DO NOTHING RETURNING notification_id"
        ") INSERT INTO outbox (notification_id, priority, withdraws) SELECT notification_id, 2, %(cause)s FROM begun",
        {"user": user, "which": which, "cause": str(cause)},
    )
    if queued.rowcount:
        dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5)


async def fresh_read(inbox: InboxStore, user: str) -> list[dict[str, object]]:
    rows = await inbox.list_page("default", user, InboxQuery(status=ListStatus.ALL, limit=100))
    return [orjson.loads(_item(row)) for row in rows if row["seq"] is not None]


async def replay(inbox: InboxStore, user: str, replica: Replica, size: int) -> None:
    while True:
        page = await inbox.page("default", user, replica.seq, size)
        frame = orjson.loads(page.as_frame())
        LogPage.model_validate(orjson.loads(page.as_json()))
        if frame["to"] > replica.seq:
            replica.apply(frame)
        if replica.seq >= page.head:
            return


@given(steps=STEPS, start=st.integers(0, 13), size=st.integers(1, 5))
@hypothesis_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
def test_any_interleaving_applied_from_any_point_equals_a_fresh_read(
    settings: Settings, steps: list[tuple[object, object]], start: int, size: int
) -> None:
    user = f"u_{uuid.uuid4().hex}"

    async def scenario() -> None:
        with connect(settings.database_url) as connection:
            async with store(settings) as inbox:
                early, late = Replica(), Replica()
                for nth, (what, argument) in enumerate(steps):
                    if nth == start:
                        await replay(inbox, user, early, size)
                    if what == "arrive":
                        arrive(connection, user, int(argument))  # type: ignore[call-overload]
                    elif isinstance(what, Cause):
                        take_back(connection, user, what, int(str(argument)))
                    elif isinstance(argument, list):
                        await inbox.act("default", user, [Action(str(what))], seqs=argument, up_to=None)
                    else:
                        await inbox.act("default", user, [Action(str(what))], seqs=None, up_to=int(str(argument)))
                await replay(inbox, user, early, size)
                await replay(inbox, user, late, 500)
                truth = await fresh_read(inbox, user)
                assert early.newest_first() == truth
                assert late.newest_first() == truth
                head = await inbox.head(("default", user))
                active = [item for item in truth if item["archived_at"] is None]
                assert head.unread == sum(item["read_at"] is None for item in active)
                assert head.unseen == sum(item["seen_at"] is None for item in active)
                by_domain = await inbox.counts_by_domain("default", user)
                assert sum(row["unread"] or 0 for row in by_domain) == head.unread
                assert sum(row["unseen"] or 0 for row in by_domain) == head.unseen

    asyncio.run(scenario())


def test_fifty_writers_to_one_inbox_leave_no_gap(database_url: str) -> None:
    def write(_: int) -> None:
        with connect(database_url) as connection:
            ingest(connection, "busy")
            dispatch_batch(connection, Priority.NORMAL, limit=3, attempts=5)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(write, range(50)))
    with connect(database_url) as connection:
        while dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5).claimed:
            pass
        rows = connection.execute("SELECT seq FROM delivery ORDER BY seq").fetchall()
        box = connection.execute("SELECT * FROM inbox").fetchall()
    assert [row["seq"] for row in rows] == list(range(1, 51))
    assert [(one["last_seq"], one["unread"], one["unseen"]) for one in box] == [(50, 50, 50)]


def test_writers_and_readers_of_one_inbox_keep_counters_and_numbers_right(settings: Settings) -> None:
    async def scenario() -> None:
        async with store(settings) as inbox:
            with ThreadPoolExecutor(4) as pool:
                loop = asyncio.get_running_loop()

                def write() -> None:
                    with connect(settings.database_url) as connection:
                        for _ in range(10):
                            arrive(connection, "busy")

                writers = [loop.run_in_executor(pool, write) for _ in range(4)]
                for up_to in range(0, 60, 3):
                    await inbox.act("default", "busy", [Action.READ], seqs=None, up_to=up_to)
                    await inbox.act("default", "busy", [Action.UNREAD], seqs=[max(1, up_to)], up_to=None)
                await asyncio.gather(*writers)
            replica = Replica()
            await replay(inbox, "busy", replica, 7)
            truth = await fresh_read(inbox, "busy")
            assert replica.newest_first() == truth
            assert len(truth) == 40
            head = await inbox.head(("default", "busy"))
            assert head.unread == sum(item["read_at"] is None for item in truth)

    asyncio.run(scenario())


async def test_up_to_never_touches_what_arrived_after_it(settings: Settings, connection: Connection) -> None:
    arrive(connection, "u_1", 3)
    async with store(settings) as inbox:
        done = await inbox.act("default", "u_1", [Action.READ], seqs=None, up_to=2)
        assert (done.seq, done.changed, done.unread) == (4, 2, 1)
        assert [item["read_at"] is None for item in await fresh_read(inbox, "u_1")] == [True, False, False]


async def test_an_up_to_beyond_the_head_is_recorded_as_the_head(settings: Settings, connection: Connection) -> None:
    arrive(connection, "u_1", 2)
    async with store(settings) as inbox:
        await inbox.act("default", "u_1", [Action.READ], seqs=None, up_to=1_000)
        arrive(connection, "u_1")
        replica = Replica()
        await replay(inbox, "u_1", replica, 500)
        assert replica.newest_first() == await fresh_read(inbox, "u_1")
        assert connection.execute("SELECT up_to FROM inbox_change").fetchall() == [{"up_to": 2}]


async def test_an_action_that_changes_nothing_leaves_no_entry(settings: Settings, connection: Connection) -> None:
    arrive(connection, "u_1")
    async with store(settings) as inbox:
        assert (await inbox.act("default", "u_1", [Action.READ], seqs=[1], up_to=None)).seq == 2
        again = await inbox.act("default", "u_1", [Action.READ], seqs=[1], up_to=None)
        assert (again.seq, again.changed) == (2, 0)

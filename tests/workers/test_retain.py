"""What is too old or too much leaves inboxes: by which rules, in which steps, and devices are told of it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from models import telemetry
from models.audit import audit
from models.queries import retention as sql
from models.retention import ItemRetention, KeptItems, kept_by_type
from models.states import Action, Priority
from tests.conftest import ack
from tests.models.test_log import arrive, fresh_read, ingest, store
from tests.workers.test_fan_out import broadcast
from workers import process, tasks
from workers.celery_app import app
from workers.dispatch import dispatch_batch
from workers.resources import Resources
from workers.retain import retain_until_done

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings

DAY_S = 86_400
AGE = """
WITH older AS (UPDATE delivery SET delivered_at = delivered_at - make_interval(secs => %(s)s) WHERE seq <= %(seq)s),
     said AS (UPDATE notification SET created_at = created_at - make_interval(secs => %(s)s) WHERE %(said)s)
UPDATE inbox_change SET at = at - make_interval(secs => %(s)s) WHERE seq <= %(seq)s
"""


def keeping_little(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"inbox_retention": {"*": KeptItems(items=5, age_s=DAY_S)}, "retention_round_s": 1e-9}
    )


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return keeping_little(settings)


def pass_time(connection: Connection, seconds: float, up_to: int = 1_000_000, *, said: bool = False) -> None:
    """Make what inboxes hold up to a number older; with `said`, notifications too, whose time is part of items."""
    connection.execute(AGE, {"s": seconds, "seq": up_to, "said": said})


def retain(worker: Resources, budget_s: float = 30) -> None:
    retain_until_done(worker, time.monotonic() + budget_s)


def box(connection: Connection) -> dict[str, Any]:
    (row,) = connection.execute("SELECT last_seq, floor_seq, unread, unseen FROM inbox").fetchall()
    return row


def seqs(connection: Connection, table: str = "delivery", where: str = "true") -> list[int]:
    return [row["seq"] for row in connection.execute(f"SELECT seq FROM {table} WHERE {where} ORDER BY seq")]


# --- the rules -------------------------------------------------------------------------------------------------------


def test_a_tenants_rules_go_before_the_settings_and_longer_ones_before_shorter() -> None:
    general = kept_by_type({"*": {"items": 9}, "shop.*": {"items": 8}, "shop.order.*": {"items": 7}})
    own = kept_by_type({"shop.*": {"items": 3, "age_s": 60}, "shop.order.shipped": {"items": 2}})
    rules = [(row["beginning"], row["whole"], row["items"]) for row in ItemRetention(general, own).rows("acme")]
    assert rules == [
        ("shop.order.shipped", True, 2),
        ("shop.", False, 3),
        ("shop.order.", False, 7),
        ("shop.", False, 8),
        ("", False, 9),
    ]
    limits = ItemRetention(general, own).limits
    assert (limits.items, limits.age_s, limits.log_items, limits.log_age_s) == (2, 60, 9, 365 * DAY_S)


def test_behind_a_rule_for_everything_no_other_counts_and_without_one_there_is_a_default() -> None:
    general = kept_by_type({"shop.*": {"items": 1, "age_s": 60}})
    assert len(ItemRetention(general, kept_by_type({"*": {"items": 50}})).rows("acme")) == 1
    assert ItemRetention(general).limits == (1, 60, 10_000, 365 * DAY_S)


# --- inboxes ---------------------------------------------------------------------------------------------------------


def test_the_newest_are_kept_and_the_others_leave_as_one_change(connection: Connection, worker: Resources) -> None:
    arrive(connection, "u_1", 9)
    retired, removed = telemetry.retired._value, telemetry.removed.labels("delivery")._value
    before = retired.get(), removed.get()
    retain(worker)
    assert seqs(connection, where="deleted_at IS NULL") == [5, 6, 7, 8, 9]
    assert connection.execute("SELECT seq, action, seqs FROM inbox_change").fetchall() == [
        {"seq": 10, "action": "delete", "seqs": [1, 2, 3, 4]}
    ]
    assert box(connection) == {"last_seq": 10, "floor_seq": 5, "unread": 5, "unseen": 5}
    assert seqs(connection) == [5, 6, 7, 8, 9], "what is below the floor and deleted is gone"
    assert (retired.get() - before[0], removed.get() - before[1]) == (4, 4)
    retain(worker)
    assert box(connection)["last_seq"] == 10


def test_what_is_too_old_leaves_whether_it_was_read_or_archived(connection: Connection, worker: Resources) -> None:
    arrive(connection, "u_1", 3)
    connection.execute("UPDATE delivery SET archived_at = now(), read_at = now(), seen_at = now() WHERE seq = 1")
    connection.execute("UPDATE inbox SET unread = 2, unseen = 2")
    retain(worker)
    assert box(connection)["last_seq"] == 3
    pass_time(connection, DAY_S + 1, up_to=2)
    retain(worker)
    assert box(connection) == {"last_seq": 4, "floor_seq": 2, "unread": 1, "unseen": 1}
    assert (seqs(connection), seqs(connection, "inbox_change")) == ([3], [4])
    pass_time(connection, DAY_S + 1)
    retain(worker)
    assert (box(connection)["floor_seq"], box(connection)["last_seq"], seqs(connection)) == (4, 5, [])
    pass_time(connection, DAY_S + 1)
    retain(worker)
    assert box(connection) == {"last_seq": 5, "floor_seq": 5, "unread": 0, "unseen": 0}
    assert seqs(connection, "inbox_change") == []


async def test_the_floor_passes_over_what_is_kept_for_longer(settings: Settings, connection: Connection) -> None:
    rules = {"*": KeptItems(items=3, age_s=DAY_S), "shop.*": KeptItems(items=100, age_s=1_000 * DAY_S)}
    worker = Resources.build(settings.model_copy(update={"inbox_retention": rules}))
    arrive(connection, "u_1", 4)
    connection.execute("UPDATE delivery SET type = 'blog.post.liked' WHERE seq IN (2, 3)")
    pass_time(connection, 2 * DAY_S)
    retain(worker)
    assert (box(connection)["floor_seq"], seqs(connection)) == (4, [1, 4])
    async with store(settings) as inbox:
        assert [item["seq"] for item in await fresh_read(inbox, "u_1")] == [4, 1]
        assert (await inbox.page("default", "u_1", 3, 10)).reset
        page = await inbox.page("default", "u_1", 4, 10)
        assert (page.reset, page.last) == (False, 5)
        await inbox.act("default", "u_1", [Action.DELETE], seqs=[1], up_to=None)
        retain(worker)
        assert seqs(connection) == [4], "what a user deletes below the floor goes with the next round"
    worker.close()


@pytest.mark.parametrize(
    ("acks", "kept", "after_all"), [((1, 3, 4), [1, 4], [4]), ((3, 4), [3, 4], [4]), ((4,), [4], [4])]
)
async def test_when_it_was_acked_is_kept_as_long_as_what_was_acked(
    acks: tuple[int, ...], kept: list[int], after_all: list[int], settings: Settings, connection: Connection
) -> None:
    rules = {"*": KeptItems(items=3, age_s=DAY_S), "shop.*": KeptItems(items=100, age_s=1_000 * DAY_S)}
    worker = Resources.build(settings.model_copy(update={"inbox_retention": rules}))
    arrive(connection, "u_1", 4)
    for seq in acks:
        ack(connection, u_1=seq)
    connection.execute("UPDATE delivery SET type = 'blog.post.liked' WHERE seq IN (2, 3)")
    pass_time(connection, 2 * DAY_S)
    retain(worker)
    assert (seqs(connection), seqs(connection, "ack")) == ([1, 4], kept)
    async with store(settings) as inbox:
        await inbox.act("default", "u_1", [Action.DELETE], seqs=[1], up_to=None)
        retain(worker)
        assert (seqs(connection), seqs(connection, "ack")) == ([4], after_all)
        await inbox.act("default", "u_1", [Action.DELETE], seqs=[4], up_to=None)
        ack(connection, u_1=7)  # of changes alone
        pass_time(connection, 2 * DAY_S)
        retain(worker)
        assert (seqs(connection), seqs(connection, "ack")) == ([], [])
    worker.close()


async def test_an_ack_that_came_after_all_that_it_is_about_had_gone_goes_too(
    settings: Settings, connection: Connection
) -> None:
    worker = Resources.build(settings.model_copy(update={"inbox_retention": {"*": KeptItems(age_s=DAY_S)}}))
    arrive(connection, "u_1", 3)
    pass_time(connection, 2 * DAY_S)
    retain(worker)
    pass_time(connection, 2 * DAY_S)
    retain(worker)
    ack(connection, u_1=4)  # by a device that was away
    assert (seqs(connection), seqs(connection, "ack")) == ([], [4])
    arrive(connection, "u_1", 1)
    ack(connection, u_1=5)
    pass_time(connection, DAY_S // 2)
    retain(worker)
    assert (seqs(connection), seqs(connection, "ack")) == ([5], [4, 5])
    pass_time(connection, DAY_S)
    retain(worker)
    pass_time(connection, 2 * DAY_S)
    retain(worker)
    assert (seqs(connection), seqs(connection, "ack")) == ([], [])
    worker.close()


def test_much_is_removed_in_small_steps_and_goes_on_where_the_time_ran_out(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("MOST_RETIRED", 50), ("MOST_FOUND", 120)):
        monkeypatch.setattr(sql, name, most)
    monkeypatch.setattr(sql, "FIND_RETIRABLE", sql.FIND_RETIRABLE.replace("LIMIT 10000", "LIMIT 120"))
    ingest(connection, "u_1", 1_500)
    while dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5).claimed:
        pass
    visits = 0
    while len(seqs(connection)) > 5:
        retain(worker, 0.05)
        visits += 1
        assert visits < 200
    assert visits > 1
    assert max(len(row["seqs"]) for row in connection.execute("SELECT seqs FROM inbox_change")) <= 50
    assert seqs(connection) == list(range(1_496, 1_501))
    assert (box(connection)["unread"], box(connection)["unseen"]) == (5, 5)


class RunsOut(float):
    """A deadline that comes after so many looks at the clock, however fast the machine is."""

    looks = 0

    def _is_over(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def __gt__(self, _: object) -> bool:  # now < deadline
        return not self._is_over()

    def __le__(self, _: object) -> bool:  # now >= deadline
        return self._is_over()


def test_a_round_that_broke_off_goes_on_with_the_inbox_that_it_broke_off_in(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "MOST_RETIRED", 2)

    def unread() -> list[int]:
        return [row["unread"] for row in connection.execute("SELECT unread FROM inbox ORDER BY id")]

    users = ("u_3", "u_1", "u_2")  # in the order in which inboxes come
    for user in users:
        arrive(connection, user, 9)
    deadline = RunsOut()
    deadline.looks = 3  # as the round begins, and after each step of the first inbox but its first
    retain_until_done(worker, deadline)
    assert unread() == [5, 7, 9], "the second is half done"
    arrive(connection, users[0], 2)
    retain(worker)
    assert unread() == [7, 5, 5], "the first has had its turn in this round"
    retain(worker)
    assert unread() == [5, 5, 5]


def test_what_a_trim_has_removed_is_not_missed_by_the_audit(
    connection: Connection, worker: Resources, database_url: str
) -> None:
    for to in ({"user": "u_1"}, {"users": ["u_1", "u_2"]}):
        broadcast(connection, to)
    arrive(connection, "u_1", 7)
    retain(worker)
    left = connection.execute(
        "SELECT user_id, count(d) AS n FROM inbox i JOIN delivery d ON d.inbox_id = i.id GROUP BY 1"
    )
    assert {row["user_id"]: row["n"] for row in left} == {"u_1": 5, "u_2": 1}, "both of the first have gone from u_1"
    found = audit(database_url, 10)
    assert (found.some, found.counts["dispatched"], found.counts["lost"]) == ((), 9, 0)
    connection.execute("UPDATE inbox SET floor_seq = 0")
    found = audit(database_url, 10)
    assert found.counts["lost"] == 3, "an inbox that has not been trimmed should have them"
    assert [fault for _, fault in found.some if fault.startswith("names 2 users, was delivered to 1")]


def test_an_inbox_that_somebody_holds_is_left_for_the_next_round(connection: Connection, worker: Resources) -> None:
    arrive(connection, "u_1", 9)
    arrive(connection, "u_2", 9)
    with connection.transaction():
        connection.execute("SELECT 1 FROM inbox WHERE user_id = 'u_1' FOR UPDATE")
        started = time.monotonic()
        retain(worker)
        assert time.monotonic() - started < 4, "nobody waited for the lock"
    assert connection.execute("SELECT user_id FROM inbox ORDER BY unread").fetchall()[0] == {"user_id": "u_2"}
    retain(worker)
    assert connection.execute("SELECT min(unread) AS a, max(unread) AS b FROM inbox").fetchall() == [{"a": 5, "b": 5}]


def test_several_workers_at_once_do_it_once(settings: Settings, connection: Connection) -> None:
    for nth in range(30):
        ingest(connection, f"u_{nth}", 8)
    while dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5).claimed:
        pass

    def work(_: int) -> None:
        worker = Resources.build(settings)
        retain(worker)
        worker.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    work(0)  # what one of them held the others left
    assert connection.execute("SELECT DISTINCT unread, unseen FROM inbox").fetchall() == [{"unread": 5, "unseen": 5}]
    retired = connection.execute("SELECT inbox_id, unnest(seqs) AS seq FROM inbox_change").fetchall()
    assert sorted((row["inbox_id"], row["seq"]) for row in retired) == [
        (row["id"], seq)
        for row in connection.execute("SELECT id FROM inbox ORDER BY id").fetchall()
        for seq in (1, 2, 3)
    ]


def test_beat_starts_it_and_without_postgres_it_ends(
    connection: Connection, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert app.conf.beat_schedule["retain"]["task"] == tasks.retain.name
    arrive(connection, "u_1", 9)
    nowhere = worker.settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/none"})
    lost = replace(worker, settings=nowhere)
    monkeypatch.setattr(process, "resources", lambda: lost)
    tasks.retain()
    assert box(connection)["unread"] == 9
    lost.settings = worker.settings
    tasks.retain()
    assert box(connection)["unread"] == 5
    lost.close()


def test_a_round_begins_once_in_a_while(settings: Settings, connection: Connection) -> None:
    worker = Resources.build(settings.model_copy(update={"retention_round_s": 3_600.0}))
    arrive(connection, "u_1", 9)
    retain(worker)
    arrive(connection, "u_1", 9)
    last_seq = box(connection)["last_seq"]
    retain(worker)
    assert box(connection)["last_seq"] == last_seq
    connection.execute("UPDATE retention_round SET began_at = began_at - interval '1 hour'")
    retain(worker)
    assert box(connection)["last_seq"] == last_seq + 1
    worker.close()


# --- tenants ---------------------------------------------------------------------------------------------------------


async def test_a_tenant_has_rules_of_its_own(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    arrive(connection, "u_1", 9)
    response = await backend.patch("/v1/tenants/default", json={"retention": {"shop.order.*": {"items": 2}}})
    assert response.status_code == 200
    connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('other', 'u_1')")
    connection.execute(
        "INSERT INTO delivery SELECT i.id, d.seq, d.notification_id, d.domain, d.type, d.priority "
        "FROM inbox i, delivery d WHERE i.tenant = 'other'"
    )
    connection.execute("UPDATE inbox SET last_seq = 9, unread = 9, unseen = 9")
    await asyncio.to_thread(retain, worker)
    left = connection.execute("SELECT tenant, unread FROM inbox ORDER BY tenant").fetchall()
    assert left == [{"tenant": "default", "unread": 2}, {"tenant": "other", "unread": 5}]

"""No statement per row: senders, dispatchers and recipients need as many for a hundred as for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from api import auth
from models.contracts import InboxQuery
from models.queries import preferences as preferences_sql
from models.queries import recover as recover_sql
from models.queries import revocations as revocations_sql
from models.queries import types as types_sql
from models.states import Action, ListStatus, Priority
from tests.conftest import as_user, notification
from tests.models.test_log import arrive, ingest, store
from workers.dispatch import dispatch_batch

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings

BULK = "/v1/notifications/bulk"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[str]:
    """Every statement that this process sends from here on, on whatever connection, but for what the API looks at."""
    statements: list[str] = []
    looks = {
        types_sql.CHANGES_SINCE,
        revocations_sql.REVOCATIONS_SINCE,
        preferences_sql.REMEMBER_LOCALES_IF_NEW,
        recover_sql.due_up_to(settings.outbox_limit),
    }

    def noting(original: Any) -> Any:
        def execute(cursor: Any, query: Any, *rest: Any, **named: Any) -> Any:
            if query not in looks:
                statements.append(str(query))
            return original(cursor, query, *rest, **named)

        return execute

    for kind in (psycopg.Cursor, psycopg.AsyncCursor):
        for method in ("execute", "executemany"):
            monkeypatch.setattr(kind, method, noting(getattr(kind, method)))
    return statements


def taken(sent: list[str]) -> int:
    """How many since it was last asked; at least one."""
    count = len(sent)
    sent.clear()
    assert count
    return count


@pytest.mark.parametrize("overrides", [True, False])
def test_preferences_are_not_even_read_for_what_overrides_them(
    connection: Connection, sent: list[str], overrides: bool
) -> None:
    ingest(connection, "u_1", priority=Priority.CRITICAL)
    connection.execute("UPDATE notification SET critical_overrides = %s", (overrides,))
    assert dispatch_batch(connection, Priority.CRITICAL, limit=500, attempts=5).delivered == 1
    assert (preferences_sql.PREFERENCES_OF in sent) is not overrides


@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize("spread", [False, True], ids=["to one user", "over users"])
def test_dispatch_sends_as_many_statements_for_a_hundred_as_for_one(
    connection: Connection, sent: list[str], spread: bool, expired: bool
) -> None:
    counts = []
    for many in (1, 100):
        for nth in range(many):
            ingest(connection, f"u_{nth if spread else 0}")
        if expired:
            connection.execute("UPDATE notification SET expires_at = now() - interval '1 second'")
        taken(sent)
        batch = dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5)
        assert (batch.delivered, batch.expired) == ((0, many) if expired else (many, 0))
        counts.append(taken(sent))
    assert counts[0] == counts[1]


async def test_a_bulk_sends_as_many_statements_for_a_hundred_as_for_one(
    backend: httpx.AsyncClient, sent: list[str]
) -> None:
    await backend.post(BULK, json={"notifications": [notification()]})  # the key is known from here on
    for said in ("accepted", "replayed"):
        counts = []
        for many in (1, 100):
            items = [notification(f"u_{nth}", idempotency_key=f"{many}-{nth}") for nth in range(many)]
            sent.clear()
            answer = await backend.post(BULK, json={"notifications": items})
            assert [result["status"] for result in answer.json()["results"]] == [said] * many
            counts.append(taken(sent))
        assert counts[0] == counts[1]


async def test_reads_and_actions_take_as_many_statements_for_a_hundred_as_for_one(
    settings: Settings, connection: Connection, sent: list[str]
) -> None:
    counts: list[list[int]] = []
    async with store(settings) as inbox:
        for many in (1, 100):
            users = [("default", f"{many}_{nth}") for nth in range(many)]
            for _, user in users:
                ingest(connection, user)
            me = users[0]
            arrive(connection, me[1], many - 1)
            taken(sent)
            assert all(head.head for head in await inbox.heads(users))
            steps = [taken(sent)]
            assert (await inbox.page(*me, 0, 100)).head == many
            steps.append(taken(sent))
            assert len(await inbox.list_page(*me, InboxQuery(status=ListStatus.ALL, limit=100))) == many
            steps.append(taken(sent))
            done = await inbox.act(*me, [Action.READ], seqs=list(range(1, many + 1)), up_to=None)
            assert done.changed == many
            steps.append(taken(sent))
            assert (await inbox.act(*me, [Action.UNREAD], seqs=None, up_to=many)).changed == many
            counts.append([*steps, taken(sent)])
    assert counts[0] == counts[1]


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read again of its own accord while statements are counted, however long that takes."""
    monkeypatch.setattr(auth, "_FRESH_S", 60)


async def test_a_sender_and_a_recipient_cost_as_many_statements_with_a_hundred_as_with_one(
    calm: None, backend: httpx.AsyncClient, connection: Connection, sent: list[str]
) -> None:
    counts = []
    for many in (1, 100):
        users = [f"{many}_{nth}" for nth in range(many)]
        made = await backend.post("/v1/notifications", json={**notification(), "to": {"users": users}})
        dispatch_batch(connection, Priority.NORMAL, limit=500, attempts=5)
        arrive(connection, users[0], many - 1)
        taken(sent)
        answer = await backend.get(f"/v1/notifications/{made.json()['id']}")
        assert answer.json()["counts"]["recipients"] == many
        asked = taken(sent)
        answer = await backend.get("/v1/inbox?limit=100", headers=as_user(users[0]))
        assert len(answer.json()["items"]) == many
        counts.append((asked, taken(sent)))
    assert counts[0] == counts[1]

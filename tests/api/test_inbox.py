"""What users read and do, over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from api.answers import Answer, Answers
from models import telemetry
from models.contracts import ActionOut, DomainCounts, InboxPage, Item, LogPage
from models.states import Priority
from tests.api.test_notifications import problem
from tests.conftest import as_user, notification
from workers.dispatch import dispatch_batch

if TYPE_CHECKING:
    import httpx

    from models.database import Connection

ME = as_user("u_1")


async def fill(backend: httpx.AsyncClient, connection: Connection, *items: dict[str, Any]) -> None:
    response = await backend.post("/v1/notifications/bulk", json={"notifications": list(items)})
    assert response.json()["rejected"] == 0
    for priority in Priority:
        dispatch_batch(connection, priority, limit=500, attempts=5)


async def listed(client: httpx.AsyncClient, query: str = "", user: str = "u_1") -> InboxPage:
    response = await client.get(f"/v1/inbox{query}", headers=as_user(user))
    assert response.status_code == 200, response.text
    return InboxPage.model_validate_json(response.content)


async def test_an_inbox_that_nobody_wrote_to_is_empty(anonymous: httpx.AsyncClient) -> None:
    page = await listed(anonymous)
    assert (page.items, page.next_before, page.seq, page.counts.unread) == ([], None, 0, 0)
    log = (await anonymous.get("/v1/inbox/log", headers=ME)).json()
    assert log == {"from": 1, "to": 0, "head": 0, "reset": False, "entries": [], "counts": {"unread": 0, "unseen": 0}}
    done = (await anonymous.post("/v1/inbox/actions", json={"action": "read", "up_to": 5}, headers=ME)).json()
    assert done == {"seq": 0, "changed": 0, "counts": {"unread": 0, "unseen": 0}}


async def test_lists_newest_first_and_pages_backwards(backend: httpx.AsyncClient, connection: Connection) -> None:
    await fill(backend, connection, *(notification(title=str(n)) for n in range(1, 6)))
    page = await listed(backend, "?limit=2")
    assert ([item.title for item in page.items], page.next_before) == (["5", "4"], 4)
    page = await listed(backend, f"?limit=2&before={page.next_before}")
    assert ([item.title for item in page.items], page.next_before) == (["3", "2"], 2)
    page = await listed(backend, f"?limit=2&before={page.next_before}")
    assert ([item.title for item in page.items], page.next_before) == (["1"], None)


async def test_filters_by_status_domain_type_and_priority(backend: httpx.AsyncClient, connection: Connection) -> None:
    await fill(
        backend,
        connection,
        notification(title="1"),
        notification(title="2", type="blog.post.liked"),
        notification(title="3", priority="high"),
        notification(title="4"),
    )
    order = {item.title: item.seq for item in (await listed(backend)).items}
    await backend.post("/v1/inbox/actions", json={"action": "read", "seqs": [order["1"]]}, headers=ME)
    await backend.post("/v1/inbox/actions", json={"action": "archive", "seqs": [order["4"]]}, headers=ME)

    async def titles(query: str) -> set[str]:
        return {item.title for item in (await listed(backend, query)).items}

    assert await titles("") == {"1", "2", "3"}
    assert await titles("?status=unread") == {"2", "3"}
    assert await titles("?status=unseen") == {"2", "3"}
    assert await titles("?status=archived") == {"4"}
    assert await titles("?status=all") == {"1", "2", "3", "4"}
    assert await titles("?domain=blog") == {"2"}
    assert await titles("?type=shop.order.shipped&status=unread") == {"3"}
    assert await titles("?priority=high") == {"3"}

    counts = DomainCounts.model_validate_json((await backend.get("/v1/inbox/counts", headers=ME)).content)
    assert (counts.unread, counts.unseen) == (2, 2)
    assert {name: one.unread for name, one in counts.domains.items()} == {"blog": 1, "shop": 1}


async def test_the_etag_is_the_head(backend: httpx.AsyncClient, connection: Connection) -> None:
    await fill(backend, connection, notification())
    first = await backend.get("/v1/inbox", headers=ME)
    etag = first.headers["etag"]
    assert etag == '"1"'
    assert (first.headers["cache-control"], first.headers["vary"]) == ("private, no-cache", "Authorization")
    same = await backend.get("/v1/inbox", headers={**ME, "if-none-match": etag})
    assert (same.status_code, same.content) == (304, b"")
    await fill(backend, connection, notification())
    assert (await backend.get("/v1/inbox", headers={**ME, "if-none-match": etag})).status_code == 200


def origin(name: str) -> float:
    return telemetry.answers.labels(name)._value.get()  # type: ignore[no-any-return]


async def test_an_answer_is_kept_while_it_is_true_and_no_longer(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    await fill(backend, connection, *(notification() for _ in range(3)))
    steps: list[dict[str, Any] | None] = [
        {"action": "seen", "seqs": [1]},
        {"action": "read", "up_to": 2},
        None,  # an arrival
        {"action": "archive", "seqs": [3]},
        {"action": "delete", "seqs": [1]},
    ]
    for step in steps:
        for path in ("/v1/inbox?status=all", "/v1/inbox?status=unread", "/v1/inbox/counts"):
            read, kept = origin("read"), origin("kept")
            first = await backend.get(path, headers=ME)
            again = await backend.get(path, headers=ME)
            assert (origin("read"), origin("kept")) == (read + 1, kept + 1), "read anew once, then kept"
            assert (again.content, again.headers.get("etag")) == (first.content, first.headers.get("etag"))
            assert (await backend.get(path, headers=as_user("u_2"))).content != first.content
        if step is None:
            await fill(backend, connection, notification())
        else:
            done = await backend.post("/v1/inbox/actions", json=step, headers=ME)
            assert done.json()["changed"] > 0


async def test_a_new_inbox_of_the_same_name_and_number_is_another_one(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    await fill(backend, connection, notification(title="old"))
    assert (await listed(backend)).items[0].title == "old"
    connection.execute("DELETE FROM delivery")
    connection.execute("DELETE FROM inbox")
    await fill(backend, connection, notification(title="new"))
    page = await listed(backend)
    assert ([item.title for item in page.items], page.seq) == (["new"], 1)


def test_answers_are_bounded_in_bytes_and_the_oldest_go_first() -> None:
    answers = Answers(most_bytes=10_000)
    for nth in range(100):
        answers.keep(nth, Answer(1, 1, b"x" * 500))
        answers.get(0)
    assert [nth for nth in range(100) if answers.get(nth)] == [0, *range(91, 100)]
    answers.keep("huge", Answer(1, 1, b"x" * 10_000))
    assert answers.get("huge") is None


async def test_a_patch_changes_one_delivery_and_is_logged(backend: httpx.AsyncClient, connection: Connection) -> None:
    await fill(backend, connection, notification())
    response = await backend.patch("/v1/inbox/1", json={"read": True, "archived": True}, headers=ME)
    item = Item.model_validate_json(response.content)
    assert item.read_at is not None
    assert item.seen_at == item.read_at
    assert item.archived_at is not None
    log = LogPage.model_validate_json((await backend.get("/v1/inbox/log", headers=ME)).content)
    assert [entry.model_dump()["kind"] for entry in log.entries] == ["arrival", "change", "change"]
    assert (log.to, log.head, log.counts.unread) == (3, 3, 0)
    back = Item.model_validate_json((await backend.patch("/v1/inbox/1", json={"read": False}, headers=ME)).content)
    assert (back.read_at, back.seen_at) == (None, item.seen_at)


async def test_a_deleted_delivery_is_gone_but_its_number_is_accounted_for(
    backend: httpx.AsyncClient, connection: Connection
) -> None:
    await fill(backend, connection, notification(title="1"), notification(title="2"))
    assert (await backend.delete("/v1/inbox/1", headers=ME)).status_code == 204
    assert (await backend.delete("/v1/inbox/1", headers=ME)).status_code == 404
    assert (await backend.patch("/v1/inbox/1", json={"read": True}, headers=ME)).status_code == 404
    assert [item.title for item in (await listed(backend, "?status=all")).items] == ["2"]
    log = (await backend.get("/v1/inbox/log?since=0", headers=ME)).json()
    assert (log["from"], log["to"], [entry["seq"] for entry in log["entries"]]) == (1, 3, [2, 3])
    assert log["counts"] == {"unread": 1, "unseen": 1}


async def test_actions_answer_with_counts(backend: httpx.AsyncClient, connection: Connection) -> None:
    await fill(backend, connection, *(notification() for _ in range(3)))
    response = await backend.post("/v1/inbox/actions", json={"action": "read", "up_to": 2}, headers=ME)
    done = ActionOut.model_validate_json(response.content)
    assert (done.seq, done.changed, done.counts.unread, done.counts.unseen) == (4, 2, 1, 1)


async def test_another_users_number_is_not_mine(backend: httpx.AsyncClient, connection: Connection) -> None:
    await fill(backend, connection, notification("u_2"))
    assert (await backend.patch("/v1/inbox/1", json={"read": True}, headers=ME)).status_code == 404
    assert (await backend.delete("/v1/inbox/1", headers=ME)).status_code == 404
    done = await backend.post("/v1/inbox/actions", json={"action": "delete", "seqs": [1]}, headers=ME)
    assert done.json()["changed"] == 0
    assert len((await listed(backend, user="u_2")).items) == 1


async def test_a_log_page_beyond_the_head_says_reset(backend: httpx.AsyncClient, connection: Connection) -> None:
    await fill(backend, connection, notification())
    log = (await backend.get("/v1/inbox/log?since=99", headers=ME)).json()
    assert (log["reset"], log["head"], log["from"], log["to"], log["entries"]) == (True, 1, 2, 1, [])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/inbox?limit=0",
        "/v1/inbox?limit=101",
        "/v1/inbox?limit=x",
        "/v1/inbox?before=-1",
        "/v1/inbox?status=new",
        "/v1/inbox?colour=red",
        "/v1/inbox?priority=urgent",
        "/v1/inbox/log?since=-1",
        "/v1/inbox/log?since=99999999999999999999",
        "/v1/inbox/log?limit=501",
    ],
)
async def test_refuses_the_query(path: str, anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.get(path, headers=ME)
    assert response.status_code == 422
    assert problem(response)["errors"][0]["pointer"].startswith("?")


@pytest.mark.parametrize(
    "body",
    [
        {"action": "read"},
        {"action": "read", "seqs": [1], "up_to": 1},
        {"action": "read", "seqs": []},
        {"action": "read", "seqs": [0]},
        {"action": "read", "seqs": [-1]},
        {"action": "read", "seqs": ["1"]},
        {"action": "read", "seqs": list(range(1, 1_002))},
        {"action": "read", "up_to": -1},
        {"action": "burn", "up_to": 1},
        {"action": "read", "up_to": 2**63},
        [],
    ],
)
async def test_refuses_the_action(body: Any, anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.post("/v1/inbox/actions", json=body, headers=ME)
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("body", [{}, {"read": "yes"}, {"seen": False}, {"deleted": True}, []])
async def test_refuses_the_patch(body: Any, anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.patch("/v1/inbox/1", json=body, headers=ME)
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("seq", ["0", "-1", "x", "9" * 30])
async def test_refuses_the_number(seq: str, anonymous: httpx.AsyncClient) -> None:
    response = await anonymous.delete(f"/v1/inbox/{seq}", headers=ME)
    assert response.status_code == 422
    problem(response)

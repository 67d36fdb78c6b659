"""In which language users are told things: that of their preferences, else the one that they last came with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.keys import create_key
from tests.api.test_notifications import ONE, problem
from tests.api.test_preferences import NOBODYS, OWN, inbox, set_for
from tests.api.test_recipients import dispatched
from tests.api.test_topics import changed
from tests.api.test_users import bearing
from tests.conftest import notification, running_api, token
from tests.models.test_token_locales import remembered
from tests.socket_server.conftest import eventually
from tests.workers.test_digest import close, finish, titles
from tests.workers.test_digest import say as gather

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources

TYPE = "shop.order.shipped"
TEMPLATES = {"en": {"title": "On its way"}, "uk": {"title": "Вже в дорозі"}, "pt": {"title": "A caminho"}}


async def come(backend: httpx.AsyncClient, connection: Connection, locale: str, user: str = "u_1") -> None:
    """Call as a user whose token has a locale, and wait until that is remembered."""
    headers = bearing(token(user, locale=locale))
    assert (await backend.get("/v1/inbox/counts", headers=headers)).status_code == 200
    await eventually(lambda: remembered(connection).get(f"default/{user}") == locale)


async def titles_of(backend: httpx.AsyncClient, *users: str) -> list[str]:
    return [(await inbox(backend, user))[0]["title"] for user in users]


async def told(backend: httpx.AsyncClient, worker: Resources, to: Any, **more: Any) -> None:
    said = {"to": to, "type": TYPE, **more}
    response = await backend.post(ONE, json=said)
    assert response.status_code == 202, response.text
    await dispatched(worker)


@pytest.fixture
async def worded(backend: httpx.AsyncClient) -> httpx.AsyncClient:
    """A backend whose type has three languages."""
    assert (await backend.put(f"/v1/types/{TYPE}", json={"templates": TEMPLATES})).status_code == 200
    return backend


@pytest.mark.parametrize("priority", ["critical", "normal"])
@pytest.mark.parametrize("to", [{"users": ["u_1", "u_2", "u_3", "u_4"]}, {"topic": "blog:post:7"}, {"everyone": True}])
async def test_it_is_the_one_they_last_came_with_where_their_preferences_name_none(
    to: dict[str, Any], priority: str, worded: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    users = ["u_1", "u_2", "u_3", "u_4"]
    await changed(worded, users)
    await told(worded, worker, {"users": users}, title="everybody has an inbox", body="")
    await come(worded, connection, "uk-UA", "u_1")
    for user in ("u_2", "u_3"):
        await come(worded, connection, "pt-BR", user)
    await set_for(worded, "u_2", locale="uk")
    await set_for(worded, "u_3", locale="de")  # there is none in it, and Portuguese is not what they asked for
    await told(worded, worker, to, priority=priority)
    assert await titles_of(worded, *users) == ["Вже в дорозі", "Вже в дорозі", "On its way", "On its way"]
    await come(worded, connection, "pt-BR", "u_1")
    assert await titles_of(worded, "u_1") == ["Вже в дорозі"]  # what has arrived stays as it arrived
    await told(worded, worker, to, priority=priority)
    assert await titles_of(worded, "u_1") == ["A caminho"]


async def test_it_works_for_the_first_that_somebody_gets_and_gives_nobody_an_inbox(
    worded: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await come(worded, connection, "uk")
    await told(worded, worker, {"everyone": True})
    assert connection.execute("SELECT 1 FROM inbox").fetchall() == []
    await told(worded, worker, {"user": "u_1"})
    assert await titles_of(worded, "u_1") == ["Вже в дорозі"]


async def test_users_see_what_they_set_themselves_and_it_holds_again_when_they_take_it_back(
    worded: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await come(worded, connection, "uk")
    mine = bearing(token())
    assert (await worded.get(OWN, headers=mine)).json() == NOBODYS
    for locale, title in (("pt", "A caminho"), (None, "Вже в дорозі")):
        await set_for(worded, locale=locale)
        assert (await worded.get(OWN, headers=mine)).json()["locale"] == locale
        await told(worded, worker, {"user": "u_1"})
        assert await titles_of(worded, "u_1") == [title]


async def test_mutes_hold_whatever_language_somebody_came_with(
    worded: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await set_for(worded, "u_1", mutes={"domains": ["blog"]})
    for user in ("u_1", "u_2"):
        await come(worded, connection, "uk", user)
    await changed(worded, ["u_1", "u_2"])
    for to in ({"users": ["u_1", "u_2"]}, {"topic": "blog:post:7"}):  # in one language only
        await worded.post(ONE, json=notification(to=to, type="blog.post.published"))
    await dispatched(worker)
    assert [len(await inbox(worded, user)) for user in ("u_1", "u_2")] == [0, 2]


async def test_a_digest_lists_things_in_it(worded: httpx.AsyncClient, connection: Connection) -> None:
    await come(worded, connection, "uk", "a")
    gather(connection, "one", texts={"en": {"title": "one", "body": ""}, "uk": {"title": "один", "body": ""}})
    finish(connection)
    assert close(connection) == 1
    assert titles(connection, "a") == [["один"]]


async def test_another_tenants_user_of_that_name_is_another_user(
    worded: httpx.AsyncClient, connection: Connection, worker: Resources, database_url: str
) -> None:
    _, key = create_key(database_url, tenant="other", scopes=["admin"], name="other")
    other = bearing(key)
    minted = (await worded.post("/v1/tokens", json={"user": "u_1", "locale": "uk"}, headers=other)).json()["token"]
    assert (await worded.get("/v1/inbox", headers=bearing(minted))).status_code == 200
    await eventually(lambda: remembered(connection) == {"other/u_1": "uk"})
    await told(worded, worker, {"user": "u_1"})
    assert await titles_of(worded, "u_1") == ["On its way"]


async def test_a_tenant_can_go_whose_users_only_came(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await backend.post("/v1/tenants", json={"id": "brief"})
    key = (await backend.post("/v1/tenants/brief/keys", json={"name": "x", "scopes": ["admin"]})).json()["key"]
    minted = await backend.post("/v1/tokens", json={"user": "u_1", "locale": "uk"}, headers=bearing(key))
    theirs = bearing(minted.json()["token"])
    assert (await backend.put(OWN, json={"locale": "de"}, headers=theirs)).status_code == 200
    await eventually(lambda: remembered(connection) == {"brief/u_1": "uk"})
    refused = await backend.delete("/v1/tenants/brief")
    assert (refused.status_code, problem(refused)["code"]) == (409, "tenant_not_empty")
    assert remembered(connection) == {"brief/u_1": "uk"}
    assert (await backend.put(OWN, json={}, headers=theirs)).status_code == 200
    assert (await backend.delete("/v1/tenants/brief")).status_code == 204
    assert remembered(connection) == {}


@pytest.mark.parametrize("locale", ["", "u", "uk UA", "uk;q=1", "x" * 36, "українська", 1, ["uk"]])
async def test_a_token_is_not_made_with_what_cannot_be_a_language(locale: Any, backend: httpx.AsyncClient) -> None:
    refused = await backend.post("/v1/tokens", json={"user": "u_1", "locale": locale})
    assert problem(refused)["errors"][0]["pointer"] == "/locale"


async def test_what_an_api_process_has_heard_is_written_when_it_ends(
    settings: Settings, connection: Connection
) -> None:
    async with running_api(settings) as api:
        assert (await api.get("/v1/inbox/counts", headers=bearing(token(locale="uk")))).status_code == 200
    assert remembered(connection) == {"default/u_1": "uk"}

"""What a type says holds for what is accepted from then on, on every node, and never for what was."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from models.contracts import TenantPatch
from models.keys import create_key
from models.states import Priority
from models.tenants import change_tenant
from tests.api.test_notifications import BULK, ONE, problem
from tests.api.test_preferences import inbox, set_for
from tests.api.test_topics import changed, look
from tests.api.test_types import TEMPLATES, TYPE, URL, WHOLE, register, wrong
from tests.api.test_users import bearing
from tests.conftest import as_user, in_a_while, nobody, notification, quiet_now, running_api
from tests.socket_server.conftest import eventually
from workers.dispatch import dispatch_batch
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from models.settings import Settings
    from workers.resources import Resources

SAID: dict[str, Any] = {"to": {"user": "u_1"}, "type": TYPE, "data": {"n": 3, "place": "Kyiv"}}
UK_3 = ("3 посилки", "Kyiv: забирайте")
EN_3 = ("3 parcels", "At Kyiv")


async def say(backend: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """Send a notification, and return the sender's view."""
    response = await backend.post(ONE, json=SAID | changes)
    assert response.status_code == 202, response.text
    return await look(backend, response.json()["id"])


async def answers(client: httpx.AsyncClient, said: dict[str, Any], status: int) -> bool:
    return (await client.post(ONE, json=said)).status_code == status


async def dispatch(worker: Resources) -> None:
    for priority in Priority:
        await asyncio.to_thread(dispatch_until_idle, worker, priority, nobody)


def texts(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["title"], item["body"]) for item in items]


# --- what it decides -------------------------------------------------------------------------------------------------


async def test_a_notification_gets_what_its_type_says_where_its_sender_does_not(backend: httpx.AsyncClient) -> None:
    await register(backend, **WHOLE)
    found = await say(backend)
    assert (found["priority"], found["title"], found["body"]) == ("high", *EN_3)
    assert found["texts"] == {
        "en": dict(zip(("title", "body"), EN_3, strict=True)),
        "uk": dict(zip(("title", "body"), UK_3, strict=True)),
    }
    lasts = datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["created_at"])
    assert abs(lasts - timedelta(hours=1)) < timedelta(seconds=5)
    own = {"priority": "low", "title": "{{ mine }}", "body": "", "expires_at": "2099-01-01T00:00:00Z"}
    found = await say(backend, **own)
    assert {name: found[name] for name in own} == own
    assert found["texts"] is None
    later = await say(backend, deliver_at=in_a_while())
    lasts = datetime.fromisoformat(later["expires_at"]) - datetime.fromisoformat(later["deliver_at"])
    assert lasts == timedelta(hours=1)
    half = await say(backend, title="Literally")
    assert half["texts"]["uk"] == {"title": "Literally", "body": UK_3[1]}


async def test_a_type_without_english_falls_back_to_its_first_template(backend: httpx.AsyncClient) -> None:
    await register(backend, templates={"uk": TEMPLATES["uk"], "de": {"title": "{{ n }} Pakete"}})
    assert (await say(backend))["title"] == UK_3[0]
    await register(backend, templates={"de": {"title": "{{ n }} Pakete"}})
    alone = await say(backend)
    assert (alone["title"], alone["body"], alone["texts"]) == ("3 Pakete", "", None)


async def test_data_that_does_not_fit_is_refused_with_pointers(backend: httpx.AsyncClient) -> None:
    await register(backend, **WHOLE)
    assert list(await wrong(backend, "POST", ONE, {**SAID, "data": {"n": "three", "place": "x"}})) == [
        ("/data/n", "type")
    ]
    assert list(await wrong(backend, "POST", ONE, {**SAID, "data": {"place": "x"}})) == [("/data", "required")]
    found = await wrong(backend, "POST", ONE, {**SAID, "data": {"n": 3}})
    assert "The body template for en cannot be filled in: 'place' is undefined" in found["/data", "template_failed"]
    found = await wrong(backend, "POST", ONE, {**SAID, "data": {"n": 3, "place": "x" * 5_000}})
    assert "longer than 4000 characters" in found["/data", "template_failed"]
    items = [SAID, {**SAID, "data": {}}, {**SAID, "type": "shop.order.unheard_of"}, SAID]
    answer = (await backend.post(BULK, json={"notifications": items})).json()
    assert [each["status"] for each in answer["results"]] == ["accepted", "rejected", "rejected", "accepted"]
    assert [each["error"]["errors"][0]["pointer"] for each in answer["results"][1:3]] == ["/data", "/title"]


async def test_a_title_that_becomes_empty_is_refused(backend: httpx.AsyncClient) -> None:
    await register(backend, templates={"en": {"title": "{% if n > 3 %}Many{% endif %}"}})
    assert "becomes empty" in (await wrong(backend, "POST", ONE, SAID))["/data", "template_failed"]


async def test_markup_in_one_locale_makes_all_of_them_html(backend: httpx.AsyncClient) -> None:
    await register(
        backend,
        templates={
            "en": {"title": "{{ place }}", "body": "<b>{{ place }}</b>"},
            "uk": {"title": "{{ place }}", "body": "{{ place }}"},
        },
    )
    found = await say(backend, data={"place": "<script>"})
    assert found["title"] == "<script>"
    assert [found["texts"][locale]["body"] for locale in ("en", "uk")] == ["<b>&lt;script&gt;</b>", "&lt;script&gt;"]


async def test_unregistered_types_need_a_title_and_a_tenant_can_refuse_them(
    backend: httpx.AsyncClient, database_url: str
) -> None:
    assert ("/title", "missing") in await wrong(backend, "POST", ONE, {**SAID, "type": "shop.order.unheard_of"})
    assert (await backend.post(ONE, json=notification())).status_code == 202
    change_tenant(database_url, "default", TenantPatch(require_types=True))
    await eventually(lambda: answers(backend, notification(), 422), patience_s=1)
    found = await wrong(backend, "POST", ONE, notification())
    assert "PUT /v1/types/shop.order.shipped" in found["/type", "unknown_type"]
    await register(backend, "/v1/types/shop.order.shipped")
    assert (await backend.post(ONE, json=notification())).status_code == 202
    change_tenant(database_url, "default", TenantPatch(require_types=False))
    await eventually(lambda: answers(backend, notification(type="shop.order.unheard_of"), 202), patience_s=1)


async def test_another_tenants_type_decides_nothing(backend: httpx.AsyncClient, database_url: str) -> None:
    _, key = create_key(database_url, tenant="other", scopes=["admin"], name="other")
    assert (await backend.put(URL, json=WHOLE, headers=bearing(key))).status_code == 200
    assert ("/title", "missing") in await wrong(backend, "POST", ONE, SAID)


# --- what changes, and what does not ---------------------------------------------------------------------------------


async def test_a_change_holds_on_every_node_within_a_second(
    backend: httpx.AsyncClient, settings: Settings, api_key: str
) -> None:
    async with running_api(settings) as elsewhere:
        elsewhere.headers["authorization"] = f"Bearer {api_key}"
        assert await answers(elsewhere, SAID, 422)
        await register(backend, **WHOLE)
        await eventually(lambda: answers(elsewhere, SAID, 202), patience_s=1)
        await register(backend, schema={"required": ["weight"]}, templates=TEMPLATES)
        assert await answers(backend, SAID, 422)  # here at once
        await eventually(lambda: answers(elsewhere, SAID, 422), patience_s=1)
        await register(backend, **WHOLE)
        await eventually(lambda: answers(elsewhere, SAID, 202), patience_s=1)
        await backend.delete(URL)
        assert await answers(backend, SAID, 422)
        await eventually(lambda: answers(elsewhere, SAID, 422), patience_s=1)


async def test_a_retry_gets_its_answer_though_the_type_has_changed(backend: httpx.AsyncClient) -> None:
    await register(backend, **WHOLE)
    key = {"idempotency-key": "once"}
    first = await backend.post(ONE, json=SAID, headers=key)
    for change in ({"templates": {"en": {"title": "Changed"}}}, {"schema": {"required": ["weight"]}}, None):
        if change is None:
            await backend.delete(URL)
        else:
            await register(backend, **change)
        again = await backend.post(ONE, json=SAID, headers=key)
        assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (202, first.json(), "true")
    other = await backend.post(ONE, json={**SAID, "data": {"n": 4}}, headers=key)
    assert (other.status_code, problem(other)["code"]) == (422, "idempotency_mismatch")
    new = await backend.post(ONE, json=SAID, headers={"idempotency-key": "another"})
    assert (new.status_code, problem(new)["code"]) == (422, "validation_failed")
    items = [{**SAID, "idempotency_key": name} for name in ("once", "never")]
    answer = (await backend.post(BULK, json={"notifications": items})).json()
    assert [each["status"] for each in answer["results"]] == ["replayed", "rejected"]


async def test_what_is_in_flight_when_its_type_is_deleted_keeps_its_text_and_expiry(
    backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await register(backend, **WHOLE)
    await set_for(backend, "u_1", locale="uk")
    waiting = await say(backend)
    scheduled = await say(backend, deliver_at=in_a_while())
    assert (await backend.delete(URL)).status_code == 204
    await dispatch(worker)
    connection.execute("UPDATE outbox SET due_at = now()")
    await dispatch(worker)
    assert texts(await inbox(backend)) == [UK_3, UK_3]
    for each in (waiting, scheduled):
        seen = await look(backend, each["id"])
        assert (seen["status"], seen["expires_at"], seen["texts"]) == ("dispatched", each["expires_at"], each["texts"])


# --- what its recipients see -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", ["critical", "high"])
@pytest.mark.parametrize("to", [{"users": ["u_1", "u_2", "u_3", "u_4"]}, {"topic": "blog:post:7"}, {"everyone": True}])
async def test_everybody_reads_it_in_their_language_in_lists_logs_and_pushes_and_for_ever(
    to: dict[str, Any], priority: str, backend: httpx.AsyncClient, connection: Connection, worker: Resources
) -> None:
    await register(backend, **WHOLE)
    users = {"u_1": ("uk", UK_3), "u_2": ("uk-UA", UK_3), "u_3": ("tlh", EN_3), "u_4": (None, EN_3)}
    await changed(backend, list(users))
    await backend.post(ONE, json=notification(to={"users": list(users)}))
    await dispatch(worker)
    for user, (locale, _) in users.items():
        await set_for(backend, user, locale=locale)
    await say(backend, to=to, priority=priority)
    batch = dispatch_batch(connection, Priority(priority), limit=10, attempts=1)
    pushed = {push.key.rpartition(":")[2]: orjson.loads(push.packet[1:])[1] for push in batch.pushes}
    for user in users:
        await set_for(backend, user, locale="en" if user == "u_1" else "uk")
    for user, (_, text) in users.items():
        newest = (await inbox(backend, user))[0]
        log = (await backend.get("/v1/inbox/log", headers=as_user(user))).json()["entries"][-1]
        (frame,) = [frame for key, frame in pushed.items() if key.endswith(user)]
        assert texts([newest, log["item"], frame["entries"][-1]["item"]]) == [text] * 3
        assert log == frame["entries"][-1]
        patched = await backend.patch(f"/v1/inbox/{newest['seq']}", json={"read": True}, headers=as_user(user))
        assert texts([patched.json()]) == [text]


async def test_what_may_not_be_muted_arrives_and_still_does_not_ring_at_night(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    await register(backend, **{**WHOLE, "mutable": False})
    await set_for(backend, "u_1", mutes={"domains": ["shop"], "types": [TYPE]}, quiet_hours=quiet_now(), locale="uk")
    await changed(backend, ["u_1"])
    sent = [await say(backend), await say(backend, to={"topic": "blog:post:7"})]
    assert [each["mutable"] for each in sent] == [False, False]
    await backend.post(ONE, json=notification())
    await dispatch(worker)
    items = await inbox(backend)
    assert texts(items) == [UK_3, UK_3]
    assert [item["silent"] for item in items] == [True, True]

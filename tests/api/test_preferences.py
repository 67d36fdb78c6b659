"""What users do not want: it is suppressed and said so, or arrives without ringing; nothing else changes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from models.contracts import PreferencesIn
from models.keys import create_key
from models.preferences import Preferences
from models.states import Priority
from tests.api.test_notifications import problem
from tests.api.test_topics import changed, look
from tests.api.test_users import bearing
from tests.conftest import as_user, nobody, notification, quiet_now
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import httpx

    from models.database import Connection
    from workers.resources import Resources

OWN = "/v1/preferences"
NOBODYS = {"mutes": {"domains": [], "types": [], "priorities": []}, "quiet_hours": None, "locale": None}
EVERY_DAY = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def prefers(**body: Any) -> Preferences:
    return Preferences.of(PreferencesIn.model_validate(body).model_dump())


def quiet(start: str, end: str, zone: str = "Europe/Kyiv", **more: Any) -> Preferences:
    return prefers(quiet_hours={"start": start, "end": end, "time_zone": zone, **more})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def set_for(client: httpx.AsyncClient, user: str = "u_1", **body: Any) -> None:
    response = await client.put(OWN, json=body, headers=as_user(user))
    assert response.status_code == 200, response.text


async def send(client: httpx.AsyncClient, worker: Resources, **changes: Any) -> dict[str, Any]:
    """Send a notification, dispatch it, and return the sender's view."""
    sent = await client.post("/v1/notifications", json=notification(**changes))
    assert sent.status_code == 202, sent.text
    for priority in Priority:
        await asyncio.to_thread(dispatch_until_idle, worker, priority, nobody)
    return await look(client, sent.json()["id"])


async def inbox(client: httpx.AsyncClient, user: str = "u_1") -> list[dict[str, Any]]:
    response = await client.get("/v1/inbox", params={"status": "all"}, headers=as_user(user))
    items: list[dict[str, Any]] = response.json()["items"]
    return items


# --- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mutes", "muted"),
    [
        ({}, False),
        ({"domains": ["shop"]}, True),
        ({"domains": ["blog"]}, False),
        ({"types": ["shop.order.shipped"]}, True),
        ({"types": ["shop.order.viewed"]}, False),
        ({"priorities": ["normal"]}, True),
        ({"priorities": ["low", "high"]}, False),
    ],
)
def test_mutes_are_by_domain_type_and_priority(mutes: dict[str, Any], muted: bool) -> None:
    theirs = prefers(mutes=mutes)
    said = {"domain": "shop", "type_": "shop.order.shipped"}
    assert (theirs.muted_by(**said, priority=Priority.NORMAL) is not None) is muted
    assert theirs.muted_by(**said, priority=Priority.CRITICAL) is None
    like_any_other = theirs.muted_by(**said, priority=Priority.CRITICAL, critical_overrides=False)
    assert (like_any_other is not None) is (muted and "priorities" not in mutes)


@pytest.mark.parametrize(
    ("hours", "now", "is_quiet"),
    [
        (quiet("22:00", "07:00"), "2026-01-15T19:59", False),  # Kyiv is two hours ahead in winter
        (quiet("22:00", "07:00"), "2026-01-15T20:00", True),
        (quiet("22:00", "07:00"), "2026-01-16T04:59", True),
        (quiet("22:00", "07:00"), "2026-01-16T05:00", False),
        (quiet("22:00", "07:00"), "2026-07-15T19:00", True),  # and three in summer
        (quiet("22:00", "07:00"), "2026-07-15T04:00", False),
        (quiet("09:00", "17:00"), "2026-01-15T07:00", True),
        (quiet("09:00", "17:00"), "2026-01-15T15:00", False),
        (quiet("03:00", "04:00"), "2026-03-29T00:59", False),  # the clock goes from 03:00 to 04:00: no such hour
        (quiet("03:00", "04:00"), "2026-03-29T01:00", False),
        (quiet("03:00", "04:00"), "2026-10-25T00:30", True),  # and back: it comes twice
        (quiet("03:00", "04:00"), "2026-10-25T01:30", True),
        (quiet("03:00", "04:00"), "2026-10-25T02:00", False),
        (quiet("22:00", "07:00", days=["fri"]), "2026-01-16T21:00", True),  # a Friday
        (quiet("22:00", "07:00", days=["fri"]), "2026-01-17T04:00", True),  # the night that began on Friday
        (quiet("22:00", "07:00", days=["fri"]), "2026-01-17T21:00", False),
        (quiet("22:00", "07:00", days=["fri"]), "2026-01-16T04:00", False),
        (quiet("00:00", "23:59", "Pacific/Kiritimati"), "2026-01-15T12:00", True),
    ],
)
def test_quiet_hours_go_by_the_users_clock(hours: Preferences, now: str, is_quiet: bool) -> None:
    assert hours.is_silent(Priority.NORMAL, at(now)) is is_quiet
    assert not hours.is_silent(Priority.CRITICAL, at(now))
    assert hours.is_silent(Priority.CRITICAL, at(now), critical_overrides=False) is is_quiet


# --- the effect ------------------------------------------------------------------------------------------------------


def test_a_locale_is_compared_in_one_spelling_however_it_was_written() -> None:
    assert prefers(locale="UK-ua").locale == "uk-UA"
    assert prefers().locale is None


async def test_what_is_muted_does_not_arrive_and_the_sender_sees_why(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    await set_for(backend, mutes={"domains": ["shop"]})
    found = await send(backend, worker, to={"users": ["u_1", "u_2"]})
    assert (found["status"], found["counts"]["recipients"], found["counts"]["suppressed"]) == ("dispatched", 1, 1)
    (why,) = [event for event in found["timeline"] if event["event"] == "suppressed"]
    assert why["detail"] == "not delivered to one user: the user mutes the domain shop"
    assert (len(await inbox(backend)), len(await inbox(backend, "u_2"))) == (0, 1)
    alone = await send(backend, worker, to={"user": "u_1"})
    assert (alone["status"], alone["counts"]["recipients"], alone["counts"]["suppressed"]) == ("dispatched", 0, 1)
    assert (await send(backend, worker, to={"user": "u_1"}, priority="critical"))["counts"]["recipients"] == 1


async def test_numbers_stay_without_gaps_around_what_is_muted(backend: httpx.AsyncClient, worker: Resources) -> None:
    await set_for(backend, mutes={"types": ["shop.order.viewed"]})
    items = [notification(type=f"shop.order.{what}") for what in ("shipped", "viewed", "viewed", "paid", "viewed")]
    await backend.post("/v1/notifications/bulk", json={"notifications": items})
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    assert [(item["seq"], item["type"]) for item in await inbox(backend)] == [
        (2, "shop.order.paid"),
        (1, "shop.order.shipped"),
    ]


async def test_in_quiet_hours_it_arrives_and_does_not_ring(backend: httpx.AsyncClient, worker: Resources) -> None:
    await set_for(backend, quiet_hours=quiet_now())
    found = await send(backend, worker, to={"users": ["u_1", "u_2"]})
    assert (found["counts"]["recipients"], found["counts"]["suppressed"]) == (2, 0)
    await send(backend, worker, to={"users": ["u_1", "u_2"]}, priority="critical")
    assert [item["silent"] for item in await inbox(backend)] == [False, True]
    assert [item["silent"] for item in await inbox(backend, "u_2")] == [False, False]
    log = (await backend.get("/v1/inbox/log", headers=as_user())).json()
    assert [entry["item"]["silent"] for entry in log["entries"]] == [True, False]


async def test_a_zone_that_this_machine_does_not_know_rings_and_holds_up_nobody(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    await set_for(backend, quiet_hours=quiet_now(), mutes={"domains": ["blog"]})
    unknown = """UPDATE preference SET body = jsonb_set(body, '{quiet_hours,time_zone}', '"Mars/Olympus"')"""
    connection.execute(unknown)
    found = await send(backend, worker, to={"users": ["u_1", "u_2"]})
    assert (found["status"], found["counts"]["recipients"]) == ("dispatched", 2)
    assert [item["silent"] for item in await inbox(backend)] == [False]
    assert (await send(backend, worker, to={"user": "u_1"}, type="blog.post.added"))["counts"]["suppressed"] == 1


async def test_a_broadcast_heeds_everybodys_preferences(
    backend: httpx.AsyncClient, worker: Resources, connection: Connection
) -> None:
    users = [f"u_{nth:02}" for nth in range(25)]
    await changed(backend, users)
    for user in users[::5]:
        await set_for(backend, user, mutes={"domains": ["shop"]})
    for user in users[1::5]:
        await set_for(backend, user, quiet_hours=quiet_now())
    await set_for(backend, "somebody_else", mutes={"domains": ["shop"]})
    found = await send(backend, worker, to={"topic": "blog:post:7"})
    assert (found["counts"]["recipients"], found["counts"]["suppressed"]) == (20, 5)
    rows = connection.execute(
        "SELECT i.user_id FROM delivery d JOIN inbox i ON i.id = d.inbox_id WHERE d.silent ORDER BY i.user_id"
    ).fetchall()
    assert [row["user_id"] for row in rows] == users[1::5]
    rows = connection.execute("SELECT user_id FROM suppression ORDER BY user_id").fetchall()
    assert [row["user_id"] for row in rows] == users[::5]
    critical = await send(backend, worker, to={"topic": "blog:post:7"}, priority="critical")
    assert critical["counts"]["recipients"] == 25


@pytest.mark.parametrize("to", [{"users": ["u_1", "u_2", "u_3"]}, {"topic": "blog:post:7"}, {"everyone": True}])
async def test_what_is_critical_is_like_any_other_where_its_type_says_so(
    to: dict[str, Any], backend: httpx.AsyncClient, worker: Resources
) -> None:
    users = ["u_1", "u_2", "u_3"]
    await changed(backend, users)
    await send(backend, worker, to={"users": users}, type="blog.post.published")
    await set_for(backend, "u_1", mutes={"types": ["shop.order.shipped"]})
    await set_for(backend, "u_2", quiet_hours=quiet_now())
    reached, silent = {}, {}
    for overrides in (False, True):
        said = {"priority": "critical", "critical_overrides": overrides}
        assert (await backend.put("/v1/types/shop.order.shipped", json=said)).json()["critical_overrides"] is overrides
        found = await send(backend, worker, to=to)
        assert (found["priority"], found["critical_overrides"]) == ("critical", overrides)
        reached[overrides] = (found["counts"]["recipients"], found["counts"]["suppressed"])
        silent[overrides] = [(await inbox(backend, user))[0]["silent"] for user in ("u_2", "u_3")]
        why = [event["detail"] for event in found["timeline"] if event["event"] == "suppressed"]
        assert why == ["not delivered to one user: the user mutes the type shop.order.shipped"] * (not overrides)
        told = (await backend.get("/v1/users/u_1/explain", params={"notification": found["id"]})).json()
        assert told["reason"] == ("delivered" if overrides else "suppressed")
    assert reached == {False: (2, 1), True: (3, 0)}
    assert silent == {False: [True, False], True: [False, False]}


async def test_what_is_critical_and_may_not_be_muted_can_still_be_kept_from_ringing(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    said = {"priority": "critical", "critical_overrides": False, "mutable": False}
    await backend.put("/v1/types/shop.order.shipped", json=said)
    await set_for(backend, mutes={"domains": ["shop"]}, quiet_hours=quiet_now())
    assert (await send(backend, worker))["counts"]["recipients"] == 1
    assert [item["silent"] for item in await inbox(backend)] == [True]


# --- reading and writing ---------------------------------------------------------------------------------------------


async def test_they_are_read_as_they_were_set_by_the_user_and_by_a_backend(backend: httpx.AsyncClient) -> None:
    assert (await backend.get(OWN, headers=as_user())).json() == NOBODYS
    given = {
        "mutes": {"domains": ["blog"], "types": ["shop.order.viewed"], "priorities": ["low"]},
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Kyiv"},
        "locale": "uk",
    }
    whole = orjson.loads(orjson.dumps(given))
    whole["quiet_hours"]["days"] = EVERY_DAY
    assert (await backend.put(OWN, json=given, headers=as_user())).json() == whole
    assert (await backend.get(OWN, headers=as_user())).json() == whole
    assert (await backend.get("/v1/users/u_1/preferences")).json() == whole
    assert (await backend.put("/v1/users/u_1/preferences", json={"locale": "de"})).json() == {**NOBODYS, "locale": "de"}
    assert (await backend.get(OWN, headers=as_user())).json()["locale"] == "de"
    assert (await backend.get(OWN, headers=as_user("u_2"))).json() == NOBODYS


async def test_backends_need_the_scope_and_see_their_own_tenant(backend: httpx.AsyncClient, database_url: str) -> None:
    await set_for(backend, locale="uk")
    for tenant, scope, status in (("other", "users:write", 200), ("default", "topics:write", 403)):
        _, key = create_key(database_url, tenant=tenant, scopes=[scope], name="x")
        response = await backend.get("/v1/users/u_1/preferences", headers=bearing(key))
        assert response.status_code == status
        assert status != 200 or response.json() == NOBODYS


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mutes": {"priorities": ["critical"]}}, "/mutes/priorities/0"),
        ({"mutes": {"domains": ["Shop"]}}, "/mutes/domains/0"),
        ({"mutes": {"types": ["shop"]}}, "/mutes/types/0"),
        ({"mutes": {"domains": ["shop"] * 201}}, "/mutes/domains"),
        ({"quiet_hours": {"start": "24:00", "end": "07:00", "time_zone": "Etc/UTC"}}, "/quiet_hours/start"),
        ({"quiet_hours": {"start": "7:00", "end": "8:00", "time_zone": "Etc/UTC"}}, "/quiet_hours/start"),
        ({"quiet_hours": {"start": "07:00", "end": "07:00", "time_zone": "Etc/UTC"}}, "/quiet_hours"),
        ({"quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Nowhere"}}, "/quiet_hours/time_zone"),
        ({"quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "../etc"}}, "/quiet_hours/time_zone"),
        ({"quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "localtime"}}, "/quiet_hours/time_zone"),
        ({"quiet_hours": {**quiet_now(), "days": []}}, "/quiet_hours/days"),
        ({"quiet_hours": {**quiet_now(), "days": ["someday"]}}, "/quiet_hours/days/0"),
        ({"locale": "not a locale"}, "/locale"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_refuses_preferences_that_make_no_sense(
    body: dict[str, Any], pointer: str, backend: httpx.AsyncClient
) -> None:
    response = await backend.put(OWN, json=body, headers=as_user())
    assert (response.status_code, problem(response)["code"]) == (422, "validation_failed")
    assert pointer in {wrong["pointer"] for wrong in response.json()["errors"]}
    assert (await backend.get(OWN, headers=as_user())).json() == NOBODYS

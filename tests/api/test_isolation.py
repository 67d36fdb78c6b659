"""Nothing crosses from one tenant to another: each endpoint and socket event, with the names of another's things.

The tenant `amber` has one of everything, and all that it says holds the word MARK. `blue` has the same user, topic and
room by name, and an administrator's key. Each case is tried by blue first, who must see nothing of amber's and change
nothing; then by somebody who may, so that a case that shows nothing to anybody fails. An endpoint or an event that is
new fails here until it has a case.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
import orjson
import pytest
import socketio
from sqlmodel import SQLModel

from api.main import create_app
from models.keys import create_key
from models.socket_events import CLIENT_EVENTS, SERVER_EVENTS
from models.states import Priority
from tests.api.test_users import bearing
from tests.conftest import in_a_while, nobody, token
from tests.socket_server.conftest import Device, eventually, running_node
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from models.database import Connection
    from models.settings import Settings
    from tests.socket_server.conftest import Running
    from workers.resources import Resources

MARK = "ambergris"
USER, ROOM, TOPIC = "u_1", "shop:order:42", "shop:vip"
AT_SEA = "u_at_sea"  # a user of amber alone
OF_THE_SYSTEM = {"retention_round"}  # tables that hold no tenant's data


@dataclass
class World:
    """Two tenants, and how to call as either."""

    amber: dict[str, str]
    blue: dict[str, str]
    secrets: dict[str, str]
    system: dict[str, str]
    notification: str = ""
    key: str = ""

    def token(self, tenant: str, user: str = USER, **more: Any) -> str:
        return token(user, tenant=tenant, secret=self.secrets[tenant], **more)


@dataclass
class Case:
    """A request about amber's things. `url` and `body` may name what the world holds in braces.

    `status` is what blue is answered. `sees` is in the answer to somebody who may ask, and not in blue's; where it is
    empty, the request changes something, if it comes from them.
    """

    status: int
    url: str = ""  # where the path has parameters
    body: Any = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    sees: str = ""
    by: str = "key"  # or a user's token, the system's key, or nobody's
    read: Callable[[httpx.Response], str] = lambda response: response.text
    says: dict[str, Any] = field(default_factory=dict)  # part of what blue is answered


def claims(response: httpx.Response) -> str:
    return str(jwt.decode(response.json()["token"], options={"verify_signature": False}))


SAID = {"to": {"user": USER}, "type": "shop.order.shipped", "title": "Blue"}
NO_COUNTS = {"unread": 0, "unseen": 0}
TENANT = "/v1/tenants/amber"
KEPT = "/v1/types/shop.order.kept"

CASES = {
    "POST /v1/notifications": Case(202, body=SAID, headers={"idempotency-key": "once"}),
    "POST /v1/notifications/bulk": Case(
        202, body={"notifications": [{**SAID, "idempotency_key": "twice"}]}, sees="mismatch", says={"accepted": 1}
    ),
    "GET /v1/notifications/{notification_id}": Case(404, "/v1/notifications/{notification}", sees=MARK),
    "DELETE /v1/notifications/{notification_id}": Case(404, "/v1/notifications/{notification}"),
    "GET /v1/notifications": Case(200, sees=MARK, says={"notifications": [], "next": None}),
    "GET /v1/users/{user}/inbox": Case(200, f"/v1/users/{USER}/inbox", sees=MARK, says={"items": [], "seq": 0}),
    "GET /v1/users/{user}/explain": Case(404, f"/v1/users/{USER}/explain?notification={{notification}}", sees="seq"),
    "DELETE /v1/users/{user}": Case(200, f"/v1/users/{USER}"),
    "PUT /v1/types/{name}": Case(200, KEPT, {"priority": "low"}, says={"version": 1}),
    "GET /v1/types/{name}": Case(404, KEPT, sees=MARK),
    "DELETE /v1/types/{name}": Case(404, KEPT),
    "GET /v1/types": Case(200, sees="shop.order.kept", says={"types": [], "next_after": None}),
    "GET /v1/users/{user}/digests": Case(200, f"/v1/users/{USER}/digests", sees=MARK, says={"digests": []}),
    "POST /v1/users/{user}/digests/close": Case(200, f"/v1/users/{USER}/digests/close", says={"closed": []}),
    "GET /v1/inbox": Case(200, by="token", sees=MARK, says={"items": [], "seq": 0, "counts": NO_COUNTS}),
    "GET /v1/inbox/counts": Case(200, by="token", sees=MARK, says={**NO_COUNTS, "domains": {}}),
    "GET /v1/inbox/log": Case(200, by="token", sees=MARK, says={"entries": [], "head": 0, "counts": NO_COUNTS}),
    "PATCH /v1/inbox/{seq}": Case(404, "/v1/inbox/1", {"read": True}, by="token"),
    "DELETE /v1/inbox/{seq}": Case(404, "/v1/inbox/1", by="token"),
    "POST /v1/inbox/actions": Case(200, body={"action": "read", "up_to": 9}, by="token", says={"changed": 0, "seq": 0}),
    "GET /v1/preferences": Case(200, by="token", sees=MARK, says={"locale": None}),
    "PUT /v1/preferences": Case(200, body={"locale": "uk"}, by="token"),
    "GET /v1/users/{user}/preferences": Case(200, f"/v1/users/{USER}/preferences", sees=MARK, says={"locale": None}),
    "PUT /v1/users/{user}/preferences": Case(200, f"/v1/users/{USER}/preferences", {"locale": "uk"}),
    "PUT /v1/topics/{topic}/subscribers": Case(
        200, f"/v1/topics/{TOPIC}/subscribers", {"users": ["u_blue"]}, says={"changed": 1}
    ),
    "POST /v1/topics/{topic}/subscribers/remove": Case(
        200, f"/v1/topics/{TOPIC}/subscribers/remove", {"users": [USER]}, says={"changed": 0}
    ),
    "GET /v1/topics/{topic}/subscribers": Case(200, f"/v1/topics/{TOPIC}/subscribers", sees=MARK, says={"users": []}),
    "POST /v1/rooms/{room}/events": Case(
        202, f"/v1/rooms/{ROOM}/events", {"event": "x"}, headers={"idempotency-key": "once"}, says={"seq": 1}
    ),
    "GET /v1/rooms/{room}/log": Case(200, f"/v1/rooms/{ROOM}/log", sees=MARK, says={"head": 0, "entries": []}),
    "POST /v1/users/{user}/disconnect": Case(200, f"/v1/users/{USER}/disconnect"),
    "GET /v1/presence": Case(
        200,
        query={"users": AT_SEA},
        sees="2026-01-02T03:04:05Z",
        says={"users": {AT_SEA: {"status": "offline", "last_seen_at": None}}},
    ),
    "POST /v1/tokens": Case(200, body={"user": USER}, sees="'tenant': 'amber'", read=claims),
    "POST /v1/keys": Case(201, body={"name": "blue", "scopes": ["admin"]}),
    "GET /v1/keys": Case(200, sees=MARK),
    "DELETE /v1/keys/{key_id}": Case(404, "/v1/keys/{key}"),
    "POST /v1/tenants": Case(403, body={"id": "amber"}, by="system", sees="tenant_exists"),
    "GET /v1/tenants": Case(403, by="system", sees='"amber"'),
    "GET /v1/tenants/{tenant}": Case(403, TENANT, by="system", sees='"amber"'),
    "PATCH /v1/tenants/{tenant}": Case(403, TENANT, {"secret": "rotate"}, by="system"),
    "DELETE /v1/tenants/{tenant}": Case(403, TENANT, by="system", sees="tenant_not_empty"),
    "POST /v1/tenants/{tenant}/keys": Case(403, f"{TENANT}/keys", {"name": "x", "scopes": ["admin"]}, by="system"),
    "GET /v1/tenants/{tenant}/keys": Case(403, f"{TENANT}/keys", by="system", sees=MARK),
    "DELETE /v1/tenants/{tenant}/keys/{key_id}": Case(403, f"{TENANT}/keys/{{key}}", by="system"),
    **{
        f"GET {path}": Case(200, by="nobody")  # about the service, the same for everybody
        for path in (
            *("/health/live", "/health/ready", "/metrics"),
            *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/docs/sockets", "/asyncapi.json"),
        )
    },
}


@pytest.fixture
async def world(
    anonymous: httpx.AsyncClient, connection: Connection, database_url: str, api_key: str, worker: Resources
) -> World:
    """Give amber one of everything, as it would make it itself."""
    keys = {
        each: create_key(database_url, tenant=each, scopes=["admin"], name="first")[1] for each in ("amber", "blue")
    }
    rows = connection.execute("SELECT id, secret FROM tenant WHERE secret IS NOT NULL").fetchall()
    secrets = {row["id"]: row["secret"] for row in rows}
    world = World(bearing(keys["amber"]), bearing(keys["blue"]), secrets, bearing(api_key))

    async def call(method: str, url: str, body: Any, **headers: str) -> dict[str, Any]:
        response = await anonymous.request(method, url, json=body, headers={**world.amber, **headers})
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer

    said = {**SAID, "type": f"{MARK}.order.shipped", "title": MARK, "data": {"word": MARK}}
    world.notification = (await call("POST", "/v1/notifications", said, **{"idempotency-key": "once"}))["id"]
    await call("POST", "/v1/notifications/bulk", {"notifications": [{**said, "idempotency_key": "twice"}]})
    await call("PUT", f"/v1/users/{AT_SEA}/preferences", {"mutes": {"domains": [MARK]}})
    await call("POST", "/v1/notifications", {**said, "to": {"user": AT_SEA}})
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    await call("POST", "/v1/notifications", {**said, "deliver_at": in_a_while()})
    await call("PUT", KEPT, {"templates": {"en": {"title": MARK}}, "digest": {"every": "1h"}})
    await call("POST", "/v1/notifications", {"to": {"user": USER}, "type": "shop.order.kept"})
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    await call("PUT", f"/v1/users/{USER}/preferences", {"mutes": {"types": [f"{MARK}.order.lost"]}})
    await call("PUT", f"/v1/topics/{TOPIC}/subscribers", {"users": [USER, MARK]})
    event = {"event": MARK, "data": {"word": MARK}}
    for key in ("once", "twice"):
        await call("POST", f"/v1/rooms/{ROOM}/events", event, **{"idempotency-key": key})
    world.key = (await call("POST", "/v1/keys", {"name": MARK, "scopes": ["users:write"]}))["id"]
    connection.execute("INSERT INTO presence VALUES ('amber', %s, '2026-01-02T03:04:05Z')", (AT_SEA,))
    connection.execute("INSERT INTO revocation VALUES ('amber', %s, '2026-01-02T03:04:05Z')", (AT_SEA,))
    connection.execute(
        "INSERT INTO notification_event (notification_id, event, detail) VALUES (%s, 'x', %s)",
        (world.notification, MARK),
    )
    return world


def state(connection: Connection) -> dict[str, list[str]]:
    """Return all that amber has, in whatever table."""
    found = {}
    for table in SQLModel.metadata.sorted_tables:
        parents = {"inbox_id": "inbox", "notification_id": "notification", "room_id": "room"}
        if table.name == "tenant":
            whose = "t.id = 'amber'"
        elif "tenant" in table.columns:
            whose = "t.tenant = 'amber'"
        elif links := [name for name in parents if name in table.columns]:
            whose = " OR ".join(
                f"t.{name} IN (SELECT id FROM {parents[name]} WHERE tenant = 'amber')" for name in links
            )
        else:
            assert table.name in OF_THE_SYSTEM, f"whose are the rows of {table.name}?"
            continue
        rows = connection.execute(f"SELECT t::text AS row FROM {table.name} t WHERE {whose} ORDER BY 1").fetchall()
        found[table.name] = [row["row"] for row in rows]
    return found


async def ask(
    client: httpx.AsyncClient, world: World, route: str, case: Case, headers: dict[str, str]
) -> httpx.Response:
    method, path = route.split()
    url = (case.url or path).format(notification=world.notification, key=world.key)
    return await client.request(
        method, url, json=case.body, params=case.query or None, headers={**case.headers, **headers}
    )


# --- REST ------------------------------------------------------------------------------------------------------------


def test_every_endpoint_has_a_case(settings: Settings) -> None:
    routes = {
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for route in create_app(settings).routes
        for method in getattr(route, "methods", None) or ()
        if method not in {"HEAD", "OPTIONS"}
    }
    assert routes == set(CASES)


@pytest.mark.parametrize("route", CASES)
async def test_another_tenant_sees_and_changes_nothing(
    route: str, world: World, anonymous: httpx.AsyncClient, connection: Connection
) -> None:
    case = CASES[route]
    blue = bearing(world.token("blue")) if case.by == "token" else {} if case.by == "nobody" else world.blue
    before = state(connection)
    answer = await ask(anonymous, world, route, case, blue)
    assert answer.status_code == case.status, answer.text
    assert (MARK in case.read(answer), bool(case.sees) and case.sees in case.read(answer)) == (False, False)
    assert answer.headers.get("idempotent-replayed") is None
    assert case.says.items() <= (answer.json() if case.says else {}).items()
    assert state(connection) == before
    if case.by == "nobody":
        return
    amber = {"key": world.amber, "token": bearing(world.token("amber")), "system": world.system}[case.by]
    if case.headers:  # what amber said under this key is found again; blue's was another's
        amber = {**amber, "idempotency-key": "another"}
    allowed = await ask(anonymous, world, route, case, amber)
    if case.sees:
        assert case.sees in case.read(allowed), "the case shows nothing to anybody"
    else:
        assert allowed.is_success, allowed.text
        assert state(connection) != before, "the case changes nothing for anybody"


async def test_credentials_of_another_kind_or_signed_by_another_are_refused(
    world: World, anonymous: httpx.AsyncClient, connection: Connection
) -> None:
    before = state(connection)
    forged = bearing(token(USER, tenant="amber", secret=world.secrets["blue"]))
    of_the_system = bearing(token(USER, tenant="amber"))  # signed with the default tenant's secret
    for route, case in CASES.items():
        if case.by != "nobody":
            wrong = world.amber if case.by == "token" else bearing(world.token("amber"))
            for credentials in (forged, of_the_system, wrong, {}):
                assert (await ask(anonymous, world, route, case, credentials)).status_code == 401, route
    assert state(connection) == before


# --- sockets ---------------------------------------------------------------------------------------------------------

OFFLINE = {AT_SEA: {"status": "offline", "last_seen_at": None}}
# What a client of either tenant sends, and a part of what blue is answered.
EVENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ack": ({"seq": 2}, {"ok": False}),
    "sync": ({"since": 0}, {"ok": True, "head": 0, "entries": [], "counts": NO_COUNTS}),
    "act": ({"action": "read", "up_to": 9}, {"ok": True, "changed": 0, "seq": 0}),
    "watch": ({"users": [AT_SEA]}, {"ok": True, "users": OFFLINE}),
    "join": ({"room": ROOM}, {"ok": True, "seq": 0, "head": 0}),
    "leave": ({"room": ROOM}, {"ok": True}),
    "unwatch": ({"users": [AT_SEA]}, {"ok": True}),
    "status": ({"status": "away"}, {"ok": True}),
    "refresh": ({"token": "{amber}"}, {"ok": False}),
}
SAME_FOR_ALL = {"leave", "unwatch", "status"}  # their answers say nothing


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[Running]:
    async with running_node(settings) as running:
        yield running


@pytest.fixture
async def devices() -> AsyncIterator[Callable[[], Device]]:
    made: list[Device] = []

    def make() -> Device:
        made.append(Device())
        return made[-1]

    yield make
    for one in made:
        await one.client.disconnect()


async def connected(device: Device, node: Running, world: World, tenant: str, user: str = USER, **more: Any) -> Device:
    text = world.token(tenant, user, rooms=["*"], watch=["*"], **more)
    return await device.connect(node.url, auth={"token": text})


def test_every_event_of_the_socket_has_a_case() -> None:
    assert set(EVENTS) == set(CLIENT_EVENTS)
    assert {"ready", "inbox", "room", "presence", "error", "expiring", "drain"} == set(SERVER_EVENTS)


@pytest.mark.parametrize("event", EVENTS)
async def test_a_client_of_another_tenant_sees_and_changes_nothing(
    event: str, world: World, node: Running, devices: Callable[[], Device], connection: Connection
) -> None:
    at_sea = await connected(devices(), node, world, "amber", AT_SEA)
    amber, blue = [await connected(devices(), node, world, tenant) for tenant in ("amber", "blue")]
    before = state(connection)
    given, expected = EVENTS[event]
    payload = orjson.loads(orjson.dumps(given).replace(b"{amber}", world.token("amber").encode()))
    answer = await blue.call(event, payload)
    assert expected.items() <= answer.items(), answer
    assert MARK not in str(answer)
    assert state(connection) == before
    assert (blue.ready["head"], blue.ready["counts"]) == (0, NO_COUNTS)
    allowed = await amber.call(event, payload)
    assert allowed["ok"] is True
    assert (allowed == answer) is (event in SAME_FOR_ALL), "the case shows the same to everybody"
    assert at_sea.client.connected


async def test_nothing_that_one_tenants_clients_are_sent_goes_to_anothers(
    world: World,
    node: Running,
    devices: Callable[[], Device],
    anonymous: httpx.AsyncClient,
    worker: Resources,
) -> None:
    blue = await connected(devices(), node, world, "blue")
    await blue.join(ROOM)
    await blue.call("watch", {"users": [AT_SEA, USER]})
    told = list(blue.order)
    amber = await connected(devices(), node, world, "amber")
    await amber.join(ROOM)
    await amber.call("watch", {"users": [AT_SEA]})
    at_sea = await connected(devices(), node, world, "amber", AT_SEA, ttl_s=4)
    room = f"/v1/rooms/{ROOM}/events"
    await anonymous.post(room, json={"event": MARK, "data": {"nth": 3}}, headers=world.amber)
    await anonymous.post("/v1/notifications", json={**SAID, "title": MARK}, headers=world.amber)
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    await amber.client.emit("nonsense")
    await eventually(lambda: at_sea.expiring)
    await at_sea.client.disconnect()
    await eventually(lambda: {"ready", "inbox", "room", "error", "presence"} <= set(amber.order))
    await eventually(lambda: amber.statuses(AT_SEA)[-1:] == ["offline"])
    assert blue.order == told
    # What blue is sent is its own, and the first of its kind.
    await anonymous.post(room, json={"event": "x", "data": {"nth": 1}}, headers=world.blue)
    await anonymous.post("/v1/notifications", json=SAID, headers=world.blue)
    await asyncio.to_thread(dispatch_until_idle, worker, Priority.NORMAL, nobody)
    await blue.reach(1)
    await blue.reach_in(ROOM, 1)
    assert [item["title"] for item in blue.replica.newest_first()] == ["Blue"]
    assert blue.heard(ROOM) == [1]
    assert MARK not in str((blue.frames, blue.rooms, blue.presence, blue.errors))
    assert (await anonymous.post(f"/v1/users/{USER}/disconnect", headers=world.blue)).status_code == 200
    await eventually(lambda: not blue.client.connected)
    assert amber.client.connected
    assert (await amber.call("sync", {"since": 0}))["ok"]


async def test_a_token_of_another_tenant_opens_no_connection(
    world: World, node: Running, devices: Callable[[], Device]
) -> None:
    one = devices()
    forged = token(USER, tenant="amber", secret=world.secrets["blue"])
    with pytest.raises(socketio.exceptions.ConnectionError):
        await one.client.connect(node.url, auth={"token": forged}, transports=["websocket"], wait_timeout=5)
    assert one.refusal["data"]["code"] == "token_invalid"

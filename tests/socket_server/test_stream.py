"""What a client receives: `ready` first, then every number once and in order, whatever gets lost in between."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import socketio

from models import redis_keys
from models.keys import create_key
from models.push import Push, encode
from models.queries.withdraw import queue_expired
from models.retention import KeptItems
from models.socket_events import InboxFrame, ReadyFrame
from models.states import Action, Priority
from tests.conftest import as_user, nobody, running_api, token
from tests.models.test_log import ingest
from tests.socket_server.conftest import eventually, running_node
from workers.dispatch import dispatch_batch
from workers.retain import retain_until_done
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    import redis.asyncio

    from models.database import Connection
    from models.settings import Settings
    from tests.socket_server.conftest import Arrive, Make, Running
    from workers.resources import Resources


async def test_ready_comes_first_and_names_the_head(node: Running, device: Make, arrive: Arrive) -> None:
    await arrive(how_many=3)
    one = await device().connect(node.url)
    ready = ReadyFrame.model_validate(one.ready)
    assert (one.order[0], ready.user, ready.seq, ready.head, ready.reset) == ("ready", "u_1", 3, 3, False)
    assert ready.counts.unread == 3


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="+".join)
async def test_a_notification_reaches_a_connected_user(
    transports: list[str], node: Running, device: Make, arrive: Arrive
) -> None:
    one = await device().connect(node.url, transports=transports)
    assert one.client.transport() == transports[-1]
    await arrive(how_many=2)
    await one.reach(2)
    for frame in one.frames:
        InboxFrame.model_validate(frame)
    assert one.titles() == [0, 1]
    assert one.frames[-1]["counts"] == {"unread": 2, "unseen": 2}


async def test_two_devices_on_two_nodes_hear_the_same(
    settings: Settings, node: Running, device: Make, arrive: Arrive
) -> None:
    async with running_node(settings) as other:
        one, two = await device().connect(node.url), await device().connect(other.url)
        await arrive()
        await one.reach(1)
        await two.reach(1)
        done = await one.call("act", {"action": "read", "seqs": [1]})
        assert (done["ok"], done["changed"], done["counts"]["unread"]) == (True, 1, 0)
        await one.reach(2)
        await two.reach(2)
        assert one.replica.items == two.replica.items
        assert two.replica.items[1]["read_at"]
        await two.client.disconnect()


async def test_a_change_over_rest_reaches_the_sockets(
    settings: Settings, node: Running, device: Make, arrive: Arrive
) -> None:
    one = await device().connect(node.url)
    await arrive()
    async with running_api(settings) as api:
        await api.patch("/v1/inbox/1", json={"read": True, "archived": True}, headers=as_user())
    await one.reach(3)
    assert one.replica.items[1]["archived_at"]


async def test_what_is_recalled_vanishes_live(
    settings: Settings, node: Running, device: Make, arrive: Arrive, connection: Connection, database_url: str
) -> None:
    one = await device().connect(node.url)
    await arrive()
    await arrive()
    await one.reach(2)
    (sent,) = connection.execute("SELECT notification_id::text AS id FROM delivery WHERE seq = 1").fetchall()
    key = create_key(database_url, tenant="default", scopes=["notifications:write"], name="test")[1]
    async with running_api(settings) as api:
        await api.delete(f"/v1/notifications/{sent['id']}", headers={"authorization": f"Bearer {key}"})
    await one.reach(3)
    assert list(one.replica.items) == [2]
    assert one.frames[-1]["counts"] == {"unread": 1, "unseen": 1}


async def test_what_expires_vanishes_live(
    node: Running, device: Make, arrive: Arrive, connection: Connection, worker: Resources
) -> None:
    one = await device().connect(node.url)
    await arrive()
    await one.reach(1)
    connection.execute(
        "INSERT INTO expiry (notification_id, priority, expires_at) SELECT id, priority, now() FROM notification"
    )
    connection.execute(queue_expired(10))
    dispatch_until_idle(worker, Priority.NORMAL, nobody)
    await one.reach(2)
    assert not one.replica.items


async def test_since_replays_exactly_what_was_missed(node: Running, device: Make, arrive: Arrive) -> None:
    await arrive(how_many=2)
    await arrive(how_many=250)
    one = await device().connect(node.url, since=2)
    assert one.ready["seq"] == 2
    await one.reach(252)
    assert one.titles() == list(range(250))


async def test_since_beyond_the_head_is_a_reset(node: Running, device: Make, arrive: Arrive) -> None:
    await arrive()
    one = await device().connect(node.url, since=99)
    assert (one.ready["reset"], one.ready["seq"]) == (True, 1)
    await arrive()
    await one.reach(2)


async def test_what_is_no_longer_kept_vanishes_from_devices_that_are_there(
    settings: Settings, node: Running, device: Make, arrive: Arrive, worker: Resources
) -> None:
    worker.settings = settings.model_copy(update={"inbox_retention": {"*": KeptItems(items=2)}})
    await arrive(how_many=5)
    there, away = await device().connect(node.url, since=0), await device().connect(node.url, since=0)
    await there.reach(5)
    await away.client.disconnect()
    await asyncio.to_thread(retain_until_done, worker, time.monotonic() + 5)
    await there.reach(6)
    assert sorted(there.replica.items) == [4, 5]
    assert there.frames[-1]["counts"] == {"unread": 2, "unseen": 2}
    assert [entry["action"] for entry in there.frames[-1]["entries"]] == ["delete"]
    back = await device().connect(node.url, since=5)
    assert (back.ready["reset"], back.ready["seq"]) == (False, 5)
    assert (await device().connect(node.url, since=1)).ready["reset"]


async def test_since_before_what_is_kept_is_a_reset(
    node: Running, device: Make, arrive: Arrive, connection: Connection
) -> None:
    await arrive(how_many=5)
    connection.execute("UPDATE inbox SET floor_seq = 3")
    assert (await device().connect(node.url, since=2)).ready["reset"]
    assert not (await device().connect(node.url, since=3)).ready["reset"]


async def test_a_push_that_redis_lost_is_repaired_from_postgres(
    node: Running, device: Make, arrive: Arrive, connection: Connection
) -> None:
    one = await device().connect(node.url)
    ingest(connection, "u_1", 2)
    dispatch_batch(connection, Priority.NORMAL, limit=10, attempts=5)  # and nobody pushes
    await one.reach(2)
    assert one.titles() == [0, 1]


async def test_a_gap_is_repaired_before_the_later_frame_goes_out(
    node: Running, device: Make, arrive: Arrive, connection: Connection
) -> None:
    one = await device().connect(node.url)
    ingest(connection, "u_1")
    dispatch_batch(connection, Priority.NORMAL, limit=10, attempts=5)
    await arrive()
    await one.reach(2)
    assert one.titles() == [0, 0]


async def test_a_push_that_comes_twice_goes_out_once(node: Running, device: Make, connection: Connection) -> None:
    one = await device().connect(node.url)
    ingest(connection, "u_1")
    batch = dispatch_batch(connection, Priority.NORMAL, limit=10, attempts=5)
    delivery = node.node._delivery
    for push in batch.pushes * 3:
        delivery.on_push(push)
    await one.reach(1)
    await asyncio.sleep(0.05)
    assert len(one.frames) == 1


async def test_crossed_pushes_arrive_in_order(node: Running, device: Make, connection: Connection) -> None:
    one = await device().connect(node.url)
    pushes = []
    for _ in range(5):
        ingest(connection, "u_1")
        pushes += dispatch_batch(connection, Priority.NORMAL, limit=10, attempts=5).pushes
    for push in reversed(pushes):
        node.node._delivery.on_push(push)
    await one.reach(5)


async def test_after_flushall_presence_and_stream_heal(
    node: Running, device: Make, arrive: Arrive, redis_client: redis.asyncio.Redis
) -> None:
    one = await device().connect(node.url)
    await redis_client.flushall()
    await arrive()
    await one.reach(1)
    await node.node._announcer.announce()
    announcer = node.node._announcer
    assert await redis_client.smembers(announcer._set) == {b"default/u_1"}
    assert await redis_client.zscore(redis_keys.NODES, announcer._node)


async def test_a_bus_that_is_cut_listens_anew(
    node: Running, device: Make, arrive: Arrive, redis_client: redis.asyncio.Redis
) -> None:
    one = await device().connect(node.url)
    await redis_client.client_kill_filter(_type="pubsub")
    await arrive()
    await one.reach(1)
    await eventually(lambda: node.node.failing is None)
    await arrive()
    await one.reach(2)


async def test_presence_follows_the_last_connection(node: Running, device: Make) -> None:
    announcer = node.node._announcer
    one, two = await device().connect(node.url), await device().connect(node.url)
    assert await announcer._redis.scard(announcer._set) == 1
    await one.client.disconnect()
    await eventually(lambda: len(node.node._registry) == 1)
    assert await announcer._redis.scard(announcer._set) == 1
    await two.client.disconnect()
    await eventually(lambda: _nobody(announcer._redis, announcer._set))


async def _nobody(client: redis.asyncio.Redis, key: str) -> bool:
    return not await client.exists(key)


async def test_acks_are_recorded_and_never_go_back(
    node: Running, device: Make, arrive: Arrive, connection: Connection
) -> None:
    one = await device().connect(node.url)
    await arrive(how_many=3)
    await one.reach(3)

    def acked() -> int:
        return int(connection.execute("SELECT acked_seq FROM inbox").fetchall()[0]["acked_seq"])

    assert await one.call("ack", {"seq": 2}) == {"ok": True}
    await eventually(lambda: acked() == 2)
    await one.call("ack", {"seq": 1})
    await one.call("ack", {"seq": 3})
    await eventually(lambda: acked() == 3)


async def test_sync_answers_a_page_of_the_log(node: Running, device: Make, arrive: Arrive) -> None:
    await arrive(how_many=5)
    one = await device().connect(node.url)
    page = await one.call("sync", {"since": 1, "limit": 2})
    assert (page["ok"], page["from"], page["to"], page["head"]) == (True, 2, 3, 5)
    assert [entry["seq"] for entry in page["entries"]] == [2, 3]


async def test_a_connection_ends_with_its_token(node: Running, device: Make) -> None:
    one = await device().connect(node.url, auth={"token": token(ttl_s=1)})
    await eventually(lambda: not one.client.connected)
    assert one.errors[0]["code"] == "token_expired"


async def test_presence_that_was_not_written_is_written_anew(node: Running, device: Make) -> None:
    await device().connect(node.url)
    announcer = node.node._announcer
    await announcer._redis.srem(announcer._set, "default/u_1")
    await announcer._redis.sadd(announcer._set, "default/somebody_else")
    announcer._missed = True
    announcer.announce_soon()

    async def right() -> bool:
        return await announcer._redis.smembers(announcer._set) == {b"default/u_1"}

    await eventually(right)


async def test_a_stopping_node_tells_its_clients_and_lets_them_go(
    node: Running, device: Make, arrive: Arrive, connection: Connection
) -> None:
    one = await device().connect(node.url)
    await arrive()
    await one.reach(1)
    await one.call("ack", {"seq": 1})
    await node.node.drain()
    await eventually(lambda: not one.client.connected and "drain" in one.order)  # its handlers are tasks
    assert node.node.failing == "draining"
    assert connection.execute("SELECT acked_seq FROM inbox").fetchall() == [{"acked_seq": 1}]
    late = device()
    with pytest.raises(socketio.exceptions.ConnectionError):
        await late.connect(node.url)
    assert late.refusal == "Connection error"  # so the library calls an answer of HTTP


async def test_clients_of_a_node_that_drains_come_back_spread_over_time(settings: Settings, device: Make) -> None:
    async with running_node(settings) as node:
        devices = [await device().connect(node.url, f"u_{nth}") for nth in range(20)]
        await node.node.drain()
        await eventually(lambda: all("drain" in one.order and not one.client.connected for one in devices))
    waits = {one.drain["reconnect_in_ms"] for one in devices}
    assert min(waits) >= 0
    assert max(waits) <= 300  # a tenth of a second for twenty clients, and a fifth more
    assert len(waits) > 5


async def test_a_node_that_stops_while_it_writes_acks_loses_none(
    node: Running, device: Make, arrive: Arrive, connection: Connection
) -> None:
    one = await device().connect(node.url)
    await arrive()
    await one.reach(1)
    receipts = node.node._receipts
    with connection.transaction():
        connection.execute("SELECT 1 FROM inbox FOR UPDATE")
        await one.call("ack", {"seq": 1})
        await eventually(lambda: not receipts._waiting)
        stopping = asyncio.create_task(node.node.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
    await stopping
    assert connection.execute("SELECT acked_seq FROM inbox").fetchall() == [{"acked_seq": 1}]


async def test_every_action_works_over_a_socket(node: Running, device: Make, arrive: Arrive) -> None:
    await arrive()
    one = await device().connect(node.url)
    for action in Action:  # in an order in which each changes something
        answer = await one.call("act", {"action": str(action), "seqs": [1]})
        assert (answer["ok"], answer["changed"]) == (True, 1), action
    await one.reach(1 + len(Action))
    assert answer["counts"] == {"unread": 0, "unseen": 0}


async def test_a_node_answers_once_it_has_taken_a_message(node: Running, worker: Resources) -> None:
    name = node.node._announcer._node
    message = encode([Push("default/nobody", 1, 1, b"2[]")], "answers")
    assert worker.redis.publish(redis_keys.node_channel(name), message) == 1
    await eventually(lambda: worker.redis.lrange("answers", 0, -1) == [name.encode()])
    assert 0 < worker.redis.ttl("answers") <= 60

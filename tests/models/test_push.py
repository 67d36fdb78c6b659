"""Who is told of a push: decided without any Redis, so the test plays Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models import redis_keys
from models.push import NO_PRIORITY, Push, Router, decode, encode
from models.states import Priority

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.push import Command


def push(user: str, priority: int = Priority.NORMAL.rank) -> Push:
    return Push(f"default/{user}", 1, 1, b"2[]", priority, 1.0)


def told(router: Router, pushes: Sequence[Push], holds: dict[str, set[str]], deaf: frozenset[str] = frozenset()) -> Any:
    """Run a route against nodes that hold users. Returns the PUBLISH, ZREM and UNLINK commands, and the result."""
    done: list[Command] = []

    def answer(command: Command) -> Any:
        match command:
            case ("ZRANGE", *_):
                return [name.encode() for name in holds]
            case ("SMISMEMBER", key, *users):
                held = next((held for name, held in holds.items() if redis_keys.holdings(name) == key), set())
                return [int(user in held) for user in users]
        done.append(command)
        return int(not any(str(command[1]).startswith(redis_keys.node_channel(name)) for name in deaf))

    route = router.route(pushes, now=0.0)
    try:
        commands = next(route)
        while True:
            commands = route.send([answer(command) for command in commands])
    except StopIteration as end:
        return done, end.value


def test_each_node_gets_one_message_with_its_own_users_only() -> None:
    holds = {"a": {"default/1", "default/2"}, "b": {"default/2"}, "c": set()}
    router = Router()
    for _ in range(2):  # once with nodes that are new to it, once with nodes that it knows
        done, nodes = told(router, [push("1"), push("2"), push("3")], holds)
        assert {node: [each.key for each in pushes] for node, pushes in nodes.items()} == {
            "a": ["default/1", "default/2"],
            "b": ["default/2"],
        }
        assert {command[1]: [each.key for each in decode(command[2])[1]] for command in done} == {
            redis_keys.node_channel("a"): ["default/1", "default/2"],
            redis_keys.node_channel("b"): ["default/2"],
        }


def test_a_node_that_appears_is_asked_and_one_that_disappears_is_not_told() -> None:
    router = Router()
    told(router, [push("1")], {"a": {"default/1"}})
    done, nodes = told(router, [push("1")], {"b": {"default/1"}})
    assert ([command[1] for command in done], [*nodes]) == ([redis_keys.node_channel("b")], ["b"])


def test_two_at_once_do_not_mix_up_what_they_know() -> None:
    router = Router()
    told(router, [push("1")], {"a": set()})
    one, two = router.route([push("1")], 0.0), router.route([push("2")], 0.0)
    assert len(next(one)) == len(next(two)) == 2
    assert one.send([[b"a", b"b"], [1]]) == [("SMISMEMBER", redis_keys.holdings("b"), "default/1")]
    assert two.send([[b"a", b"b"], [0]]) == [("SMISMEMBER", redis_keys.holdings("b"), "default/2")]
    assert [command[1] for command in one.send([[1]])] == [redis_keys.node_channel("a"), redis_keys.node_channel("b")]
    assert [command[1] for command in two.send([[1]])] == [redis_keys.node_channel("b")]


def test_each_node_is_told_where_to_answer() -> None:
    holds = {"a": {"default/1", "default/2"}, "b": {"default/2"}}
    route = Router().route([push("1"), push("2")], 0.0, lambda node, pushes: f"{node} {pushes}")
    next(route)
    route.send([[b"a", b"b"]])
    published = route.send([[user in held for user in ("default/1", "default/2")] for held in holds.values()])
    assert [decode(message)[0] for _, _, message in published] == ["a 2", "b 1"]


def test_a_node_that_nobody_listens_for_is_not_addressed_again() -> None:
    done, nodes = told(Router(), [push("1")], {"a": {"default/1"}, "b": {"default/1"}}, deaf=frozenset({"a"}))
    assert [*nodes] == ["b"]
    assert done[2:] == [("ZREM", redis_keys.NODES, "a"), ("ZADD", redis_keys.DEPARTED, "NX", "0.000", "a")]


@pytest.mark.parametrize(
    ("priority", "urgent"),
    [
        (Priority.CRITICAL.rank, True),
        (Priority.HIGH.rank, True),
        (NO_PRIORITY, True),
        (Priority.NORMAL.rank, False),
        (Priority.LOW.rank, False),
    ],
)
def test_what_is_urgent_goes_by_a_channel_of_its_own(priority: int, urgent: bool) -> None:
    ((_, channel, _),), _ = told(Router(), [push("1", priority)], {"a": {"default/1"}})
    assert channel == (redis_keys.urgent_channel("a") if urgent else redis_keys.node_channel("a"))


def test_a_message_is_read_as_it_was_written() -> None:
    pushes = [Push("t/ä", 1, 3, "2[„“]".encode(), 2, 1.5), push("b")]
    answers, read = decode(encode(pushes, "somewhere"))
    assert (answers, list(read)) == ("somewhere", pushes)
    assert decode(encode(pushes))[0] == ""
    with pytest.raises(ValueError, match="header"):
        decode(b"noise")

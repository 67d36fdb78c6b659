"""Every Redis key and channel, in one place. All of it may vanish at any moment without losing anything.

Celery's own keys carry the names of `models.states.Queue`.
"""

from __future__ import annotations

NODES = "bellhop:nodes"  # sorted set: node id -> unix time at which it counts as gone


def holdings(node: str) -> str:
    """Return the set of what a socket node wants to hear of: users and rooms, as keys; expires with the node."""
    return f"bellhop:node:{node}:holds"


def node_channel(node: str) -> str:
    """Return the channel on which one socket node hears its pushes."""
    return f"bellhop:node:{node}"


def urgent_channel(node: str) -> str:
    """Return the channel for what must not queue behind thousands of others: critical, high, and what users do."""
    return f"bellhop:node:{node}:urgent"


def hint_outstanding(priority: str) -> str:
    """Return the flag that a hint for `priority` is on its way, or a dispatcher at work; expires by itself."""
    return f"bellhop:hint:{priority}"


def wake(priority: str) -> str:
    """Return the list that a dispatcher of `priority` which has run out of work waits on for a moment."""
    return f"bellhop:wake:{priority}"


def taken(dispatcher: str) -> str:
    """Return the list into which nodes put their names when they have taken what a dispatcher in a hurry sent them."""
    return f"bellhop:taken:{dispatcher}"


# What a push is addressed to, and a node holds. No name has a slash, a # or a ~ in it, so each key has one meaning.


def user_key(tenant: str, user: str) -> str:
    """Return what stands for a user's inbox."""
    return f"{tenant}/{user}"


def room_key(tenant: str, room: str) -> str:
    """Return what stands for a room."""
    return f"{tenant}/#{room}"


def is_room(key: str) -> bool:
    """Say whether a key stands for a room."""
    return "/#" in key

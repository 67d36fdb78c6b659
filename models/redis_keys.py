"""Every Redis key and channel, in one place. All of it may vanish at any moment without losing anything.

Celery's own keys carry the names of `models.states.Queue`.
"""

from __future__ import annotations

NODES = "bellhop:nodes"  # sorted set: node id -> unix time at which it counts as gone
DEPARTED = "bellhop:departed"  # sorted set: node id -> unix time at which it went away, until its users are noted
NOTICED_WITHIN_S = 120.0  # for how long what a node held outlives it, so that its users' last time can be noted


def holdings(node: str) -> str:
    """Return the set of what a socket node wants to hear of, as keys: its users, rooms, and whom somebody watches."""
    return f"bellhop:node:{node}:holds"


def notes(node: str) -> str:
    """Return the hash of what is out of the ordinary about users, as keys, of a socket node; see `models.presence`."""
    return f"bellhop:node:{node}:notes"


def reaping(node: str) -> str:
    """Return the lock of whoever notes when the users of a node that is gone were last seen."""
    return f"bellhop:node:{node}:reaping"


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


QUOTA_PREFIX = "bellhop:quota"  # of the counters of `models.quotas`, whose names the library makes


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


def watch_key(tenant: str, user: str) -> str:
    """Return what stands for the presence of a user, which somebody watches."""
    return f"{tenant}/~{user}"


def is_watch(key: str) -> bool:
    """Say whether a key stands for somebody's presence."""
    return "/~" in key


def is_room(key: str) -> bool:
    """Say whether a key stands for a room."""
    return "/#" in key

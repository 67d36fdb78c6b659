"""`wording`: what `bulk` costs where every type has a schema and templates, and every user has preferences.

Two stacks take turns: on one, notifications bring their text, and nobody has said what they want; on the other, each is
held against a schema and worded in two languages, and everybody's quiet hours, mutes and language are looked at.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp

from ops.bench.endpoint import StackError
from ops.bench.fill import TYPE
from ops.bench.lab import backstage_of, say
from ops.bench.pairs import Side, compare
from ops.bench.scenarios import BULK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.bench.endpoint import Endpoint
    from ops.bench.facts import Facts
    from ops.bench.lab import Lab

NAME = "wording"
_LEAST = 0.8  # of the throughput without
_LIMIT_S = 120.0
_AT_ONCE = 16
_OK = 200
_SCHEMA = {
    "type": "object",
    "required": ["stream", "number"],
    "properties": {"stream": {"type": "string"}, "number": {"type": "integer", "minimum": 0}},
}
_TEMPLATES = {
    "en": {
        "title": "{{ number | plural: one: '# order', other: '# orders' }} shipped",
        "body": "Your order is on its way.",
    },
    "uk": {
        "title": "{{ number | plural: one: '# замовлення', few: '# замовлення', other: '# замовлень' }} вже в дорозі",
        "body": "Ваше замовлення в дорозі.",
    },
}


def run(lab: Lab) -> Iterator[Facts]:
    """Compare a stack that uses all of it with one that uses none."""
    with lab.stack() as plain, lab.stack() as worded:
        lab.warm_up(plain)
        lab.warm_up(worded)
        prefix = lab.prefix()
        lab.run(_set_up(worded, prefix, lab.users), limit_s=_LIMIT_S, what=f"{NAME}: types and preferences")
        base = Side(plain, lab.users, lab.prefix(), {"users": lab.users, "types": 0, "preferences": 0})
        about = {"users": lab.users, "types": 1, "preferences": lab.users}
        grown = Side(worded, lab.users, prefix, about, replace(BULK, text=False))
        yield from compare(lab, NAME, base, grown, least_throughput=_LEAST)


async def _set_up(endpoint: Endpoint, prefix: str, users: int) -> None:
    async with aiohttp.ClientSession(
        backstage_of(endpoint).api_url,
        headers=endpoint.headers,
        connector=aiohttp.TCPConnector(limit=_AT_ONCE),
    ) as http:
        await _put(http, f"/v1/types/{TYPE}", {"schema": _SCHEMA, "templates": _TEMPLATES})
        async with asyncio.TaskGroup() as calls:
            for number in range(users):
                calls.create_task(_put(http, f"/v1/users/{prefix}{number}/preferences", _preferences(number)))
    say(f"{NAME}: {users:,} users have said what they want")


def _preferences(number: int) -> dict[str, Any]:
    return {
        "mutes": {"domains": ["another"], "types": ["bench.order.lost"]},
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Kyiv"},
        "locale": "uk" if number % 2 else "en-GB",
    }


async def _put(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    async with http.put(path, json=body) as response:
        if response.status != _OK:
            msg = f"PUT {path} answered {response.status}: {(await response.text())[:300]}"
            raise StackError(msg)

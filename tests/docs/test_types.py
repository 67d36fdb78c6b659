"""The guide to types: what it says to send is taken as it stands, and becomes what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from api.template_filters import filters
from api.templates import _environment
from tests.api.test_recipients import dispatched
from tests.api.test_topics import look

if TYPE_CHECKING:
    import httpx

    from workers.resources import Resources

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "types.md").read_text()
CALL = re.compile(r'curl -X (\w+) "\$API_URL(\S+)".+?<<\'JSON\'\n(.+?)\nJSON\n', re.DOTALL)


async def test_the_calls_in_the_guide_work_as_they_stand(backend: httpx.AsyncClient) -> None:
    calls = CALL.findall(GUIDE)
    assert [call[:2] for call in calls] == [
        ("PUT", "/v1/types/shop.parcel.arrived"),
        ("POST", "/v1/notifications"),
        ("PUT", "/v1/types/blog.post.liked"),
        ("POST", "/v1/notifications"),
    ]
    answers = []
    for method, path, body in calls:
        answers.append(await backend.request(method, path, json=orjson.loads(body)))
        assert answers[-1].is_success, answers[-1].text
    found = await look(backend, answers[1].json()["id"])
    assert (found["title"], found["body"]) == ("3 parcels have arrived", "Collect by March 1, 2026.")
    assert found["texts"]["uk"]["title"] == "Прибули 3 посилки"


async def test_the_digest_in_the_guide_waits_and_arrives_when_it_is_closed(
    backend: httpx.AsyncClient, worker: Resources
) -> None:
    for method, path, body in CALL.findall(GUIDE)[2:]:
        assert (await backend.request(method, path, json=orjson.loads(body))).is_success
    await dispatched(worker)
    (show,) = re.findall(r'curl "\$API_URL(\S+)"', GUIDE)
    (close,) = re.findall(r'curl -X POST "\$API_URL(\S+/close)"', GUIDE)
    (digest,) = (await backend.get(show)).json()["digests"]
    assert (digest["key"], digest["preview"]["title"]) == ("On bells", "Ada liked On bells")
    (closed,) = (await backend.post(close)).json()["closed"]
    assert (await look(backend, closed["notification"]))["data"]["items"][0]["title"] == "Ada liked On bells"


def test_the_guide_names_every_filter_and_tag() -> None:
    environment = _environment("en", html=False)
    assert set(environment.filters) == set(filters(environment._locale))
    named = set(re.findall(r"`([a-z_]+)", GUIDE.partition("## Templates")[2].partition("## Schemas")[0]))
    assert set(environment.filters) <= named
    assert {
        name for name in environment.tags if name.isalpha() and name not in {"content", "output", "illegal"}
    } <= named

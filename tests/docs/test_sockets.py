"""The socket API is documented as it is: in AsyncAPI, on a page, and in a guide whose clients run as they stand."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from api.asyncapi import about, asyncapi
from models.errors import socket_errors
from models.socket_events import CLIENT_EVENTS, SERVER_EVENTS, Handshake, Refused
from socket_server.emitters import RESERVED
from tests.conftest import running_api, token
from tests.javascript.packages import NODE, install, run
from tests.socket_server.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from pydantic import BaseModel

    from models.settings import Settings
    from tests.socket_server.conftest import Arrive, Publish, Running

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "sockets.md"
ROOM = "shop:order:42"
MODELS: dict[str, type[BaseModel]] = {
    "Handshake": Handshake,
    "Refused": Refused,
    **{model.__name__: model for model in SERVER_EVENTS.values()},
    **{model.__name__: model for pair in CLIENT_EVENTS.values() for model in pair},
}


# --- AsyncAPI --------------------------------------------------------------------------------------------------------


def test_the_official_parser_finds_nothing_wrong(tmp_path: Path) -> None:
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(asyncapi()))
    result = run("parse.mjs", str(file))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["wrong"], found["version"]) == ([], "3.0.0")
    assert found["sent"] == list(SERVER_EVENTS)
    assert found["received"] == found["replies"] == list(CLIENT_EVENTS)


def test_every_message_says_what_it_is_and_has_an_example_that_fits() -> None:
    document = asyncapi()
    for name, model in MODELS.items():
        assert all(about(model)[:1]), name
        extra: Any = model.model_config["json_schema_extra"]
        for example in extra["examples"]:
            model.model_validate_json(json.dumps(example))
            schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            jsonschema.validate(example, schema)


def test_everything_that_is_referred_to_is_there() -> None:
    document = asyncapi()

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_every_event_that_the_server_handles_is_documented(node: Running) -> None:
    assert list(node.node._events._handlers) == list(CLIENT_EVENTS)
    assert {*SERVER_EVENTS, "connect", "disconnect"} == RESERVED


async def test_the_api_serves_the_document_and_a_page(anonymous: httpx.AsyncClient) -> None:
    document = await anonymous.get("/asyncapi.json")
    assert document.json() == asyncapi()
    page = await anonymous.get("/docs/sockets")
    assert page.headers["content-type"].startswith("text/html")
    for word in (*SERVER_EVENTS, *CLIENT_EVENTS, *(error.code for error in socket_errors())):
        assert re.search(rf">{word}<", page.text), word
    assert "/docs/sockets" in (await anonymous.get("/openapi.json")).json()["info"]["description"]
    assert re.findall(r'(?:src|href)="(?!#|/)', page.text) == []  # nothing comes from elsewhere


# --- the guide -------------------------------------------------------------------------------------------------------


def rows(heading: str) -> list[str]:
    """Return the first column of the tables below a heading."""
    section = GUIDE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return list(re.findall(r"^\| `(\w+)", section, re.MULTILINE))


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_guide_lists_every_event_and_every_code() -> None:
    listed = rows("Every event")
    assert listed == [*SERVER_EVENTS, *CLIENT_EVENTS]
    assert sorted(rows("Every code")) == [error.code for error in socket_errors()]


def test_the_guide_draws_every_flow() -> None:
    drawn = re.findall(r"^```mermaid\nsequenceDiagram\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    flows = ("CONNECT auth", "push, to the node", "(lost)", "since: 63", "refresh {token}", "drain {reconnect_in_ms")
    for flow, diagram in zip(flows, drawn, strict=True):
        assert flow in diagram


@asynccontextmanager
async def program(*command: str | Path, **variables: str) -> AsyncIterator[list[str]]:
    """Run a program for the block, and yield the lines that it prints, as they come."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **variables, "PYTHONUNBUFFERED": "1"},
        cwd=await asyncio.to_thread(install),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            lines.append(line.decode().rstrip())

    reading = asyncio.create_task(read())
    try:
        yield lines
    finally:
        process.kill()
        await process.wait()
        await reading


@pytest.mark.parametrize("language", ["js", "python"])
async def test_the_guides_client_works_as_it_stands(
    language: str, node: Running, arrive: Arrive, publish: Publish, tmp_path: Path
) -> None:
    if language == "js":
        file = install() / "guide.mjs"
        command: tuple[str | Path, ...] = (NODE, file)
    else:
        file = tmp_path / "guide.py"
        command = (sys.executable, file)
    file.write_text(block(language))
    mine = token(rooms=["shop:order:*"])
    async with program(*command, SOCKET_URL=node.url, TOKEN=mine) as lines:
        await eventually(lambda: lines == ["ready: 0 unread"])
        await eventually(lambda: node.node._rooms._rooms)
        await arrive(how_many=2)
        await publish(ROOM, range(2))
        await eventually(lambda: len(lines) == 5)
        (held,) = node.node._registry.connections()
        await node.node._server.close(held.eio_sid)  # as when the network breaks
        await arrive(how_many=1)
        await publish(ROOM, [2])
        await eventually(lambda: len(lines) == 8)
    arrivals, events, greetings = (
        [line for line in lines if line.endswith(end)] for end in (" t", " order.updated", " unread")
    )
    assert arrivals == [f"{seq} t" for seq in (1, 2, 3)]
    assert events == [f"{ROOM} {seq} order.updated" for seq in (1, 2, 3)]
    assert len(greetings) == 2


async def test_the_guides_conversation_by_hand_goes_as_it_stands(
    settings: Settings, node: Running, arrive: Arrive, publish: Publish
) -> None:
    await arrive()
    mine = token(rooms=["shop:order:*"], watch=["*"])
    url = f"{node.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket"
    wscat = await asyncio.create_subprocess_exec(
        NODE,
        "node_modules/wscat/bin/wscat",
        "--no-color",
        "--connect",
        url,
        cwd=await asyncio.to_thread(install),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert wscat.stdin
    assert wscat.stdout
    heard = ""
    async with asyncio.timeout(20):
        while "0{" not in heard:
            heard += (await wscat.stdout.read(4096)).decode()
        for line in block("wscat").splitlines():
            said, text = line.startswith("> "), line[2:].replace("$TOKEN", mine)
            if said:
                wscat.stdin.write(text.encode() + b"\n")
                continue
            while text not in heard:
                chunk = (await wscat.stdout.read(4096)).decode()
                assert chunk, heard
                heard += chunk
            heard = heard.partition(text)[2]
    wscat.stdin.close()
    wscat.kill()
    await wscat.wait()


async def test_the_guides_calls_work_as_they_stand(settings: Settings, api_key: str) -> None:
    """The bodies of its curl lines are what the API takes."""
    calls = re.findall(r'curl -X POST "\$API_URL(\S+)".*?-d \'(.*?)\'', GUIDE.read_text(), re.DOTALL)
    assert len(calls) == 2
    async with running_api(settings) as api:
        for path, body in calls:
            response = await api.post(path, json=json.loads(body), headers={"authorization": f"Bearer {api_key}"})
            assert response.is_success, response.text

"""Guides for backends and operators: each example runs as it stands, against a real API, and is answered as it says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from api.main import create_app
from models.states import Priority
from tests.conftest import nobody
from tests.socket_server.conftest import eventually
from workers.tasks import dispatch_until_idle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from models.settings import Settings
    from workers.resources import Resources

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
ROOT = GUIDES.parents[1]
NAMES = ["notifications.md", "operating.md"]
_BLOCK = re.compile(r"^```(sh|json|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANYTHING = "…"


@pytest.fixture
async def api_url(settings: Settings) -> AsyncIterator[str]:
    """The API on a port, for curl."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None))
    serving = asyncio.create_task(server._serve([listening]))
    await eventually(lambda: server.started)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    await serving


def examples(name: str) -> Iterator[tuple[str, Any]]:
    """Each command, with the answer that the guide shows below it: as JSON, or as text."""
    blocks = _BLOCK.findall((GUIDES / name).read_text())
    for (kind, text), (next_kind, answer) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "sh" and ("curl" in text or "-m ops" in text):
            yield text, json.loads(answer) if next_kind == "json" else answer if next_kind == "text" else None


def alike(shown: Any, found: Any) -> bool:
    """Say whether an answer is as shown; what is not shown must not be there."""
    if shown == ANYTHING:
        return found is not None
    if isinstance(shown, dict):
        return (
            isinstance(found, dict) and shown.keys() == found.keys() and all(alike(shown[k], found[k]) for k in shown)
        )
    if isinstance(shown, list):
        return (
            isinstance(found, list)
            and len(shown) == len(found)
            and all(alike(one, other) for one, other in zip(shown, found, strict=True))
        )
    return bool(shown == found)


def reads(shown: str, said: str) -> bool:
    """Say whether a text is as shown, with something in place of each "…"."""
    return re.fullmatch(".+?".join(map(re.escape, shown.split(ANYTHING))), said) is not None


async def run(command: str, env: dict[str, str], cwd: Path) -> str:
    command = command.replace(".venv/bin/python", sys.executable)
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", command, env=env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode == 0, f"{command}\n{error.decode()}"
    return out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples call curl")
@pytest.mark.parametrize("name", NAMES)
async def test_every_example_is_answered_as_the_guide_says(
    name: str, api_url: str, api_key: str, settings: Settings, worker: Resources, tmp_path: Path
) -> None:
    env = {"API": api_url, "KEY": api_key, "AUTH": f"Authorization: Bearer {api_key}", "PATH": "/usr/bin:/bin"}
    env |= {"BELLHOP_DATABASE_URL": settings.database_url, "PYTHONPATH": str(ROOT)}
    ran = 0
    for command, shown in examples(name):
        said = await run(command, env, tmp_path)
        if isinstance(shown, str):
            assert reads(shown, said), f"{command}\nsaid {said}"
        found = json.loads(said) if said.startswith("{") else None
        if isinstance(shown, dict):
            assert alike(shown, found), f"{command}\nanswered {said}"
        if isinstance(found, dict) and "id" in found:
            env["ID"] = found["id"]
        for priority in Priority:
            await asyncio.to_thread(dispatch_until_idle, worker, priority, nobody)
        ran += 1
    assert ran > 3


def test_an_answer_that_is_otherwise_is_seen() -> None:
    shown = {"a": ANYTHING, "b": [1, {"c": None}]}
    assert alike(shown, {"a": "x", "b": [1, {"c": None}]})
    for other in ({"a": None, "b": [1, {"c": None}]}, {"a": 1, "b": [1]}, {"a": 1, "b": [1, {"c": 2}]}, {"a": 1}, 7):
        assert not alike(shown, other)
    assert reads("a …\nc\n", "a b\nc\n")
    assert not reads("a …\nc\n", "a b\nd\n")

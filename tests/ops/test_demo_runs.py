"""The examples on a real stack: what they publish arrives, and nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from typer.testing import CliRunner

from models.tokens import mint_token
from ops.__main__ import app
from ops.demo.producers import PRODUCERS
from ops.demo.story import Notify, Say, Step
from tests.ops.test_demo_stories import DOMAINS, USERS, steps, users_of
from tests.stack import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable


OTHERS = [domain for domain in DOMAINS if domain != "social"]


def test_on_a_real_stack_everything_arrives_and_nothing_stays(tmp_path: Path) -> None:
    """One run starts a stack and tells of social until it is interrupted; another finds it and tells of the rest."""
    nobody_there = {"api_url": "http://127.0.0.1:1", "api_key": "bh_x", "socket_urls": []}
    (tmp_path / "dev.json").write_text(json.dumps(nobody_there))
    first = subprocess.Popen(
        [sys.executable, "-m", "ops", "demo", "--seconds", "0", "--domains", "social", "--pace", "4"],
        cwd=ROOT,
        env={**without_bellhop(), "BELLHOP_DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert first.stdout
        assert "does not answer" in first.stdout.readline()
        lines = iter(first.stdout.readline, "")
        assert any("social:post:" in line for line in lines), "nothing was published"
        (dev_json,) = tmp_path.glob("demo-*/bellhop/dev.json")
        dev = json.loads(dev_json.read_text())
        play_the_others(dev_json.parent, dev)
    finally:
        first.send_signal(signal.SIGTERM)
        rest, _ = first.communicate(timeout=60)
    assert first.returncode == 0, rest
    assert "Everything arrived, once and in order." in rest
    assert [pid for pid in dev["pids"].values() if Path(f"/proc/{pid}").exists()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["dev.json"]


def without_bellhop() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BELLHOP_")}


def play_the_others(data_dir: Path, dev: dict[str, Any]) -> None:
    asked = ["demo", "--seconds", "1.5", "--pace", "8", "--seed", "7", "--domains", ",".join(OTHERS)]
    result = CliRunner().invoke(app, asked, env={"BELLHOP_DATA_DIR": str(data_dir)})
    assert result.exit_code == 0, result.output
    assert dev["api_url"] in result.stdout
    assert "Everything arrived, once and in order." in result.stdout
    published = {
        row[0]: (int(row[1]), int(row[2])) for line in result.stdout.splitlines() if is_row(row := line.split())
    }
    assert set(published) == set(OTHERS)
    told: list[Step] = []
    for domain, (notified, said) in published.items():
        its = steps(domain, notified + said, seed=7)
        assert [isinstance(step, Notify) for step in its].count(True) == notified > 0
        assert said
        told += its
    least, most = expected_of(told)
    with httpx.Client(base_url=dev["api_url"]) as http:
        wait_until(lambda: least <= in_inboxes(http, dev) <= most)
        assert in_rooms(http, dev, told) == [(step.event, step.data) for step in by_room(told)]


def expected_of(told: list[Step]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """What must be in inboxes, and what may be: of a collapse key, whatever a newer one stands for may be gone."""
    least: Counter[tuple[str, str]] = Counter()
    most: Counter[tuple[str, str]] = Counter()
    newest: dict[tuple[str, str, str], tuple[str, str]] = {}
    for step in told:
        for user in users_of(step.body) if isinstance(step, Notify) else ():
            item = (step.body["title"], user)
            most[item] += 1
            if key := step.body.get("collapse_key"):
                newest[step.body["type"], key, user] = item
            else:
                least[item] += 1
    least.update(newest.values())
    return least, most


def is_row(words: list[str]) -> bool:
    return len(words) == 7 and words[0] in PRODUCERS


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait, as a run does not, for the reminders of those who are away."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def in_inboxes(http: httpx.Client, dev: dict[str, Any]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for user in USERS:
        token, _ = mint_token(dev["secret_key"], tenant=dev["tenant"], user=user, ttl_s=60)
        answer = http.get("/v1/inbox?status=all&limit=100", headers={"Authorization": f"Bearer {token}"}).json()
        assert answer["next_before"] is None
        found.update((item["title"], user) for item in answer["items"] if item["domain"] in OTHERS)
    return found


def by_room(told: list[Step]) -> list[Say]:
    said = [step for step in told if isinstance(step, Say)]
    return sorted(said, key=lambda step: step.room)  # of one room, in order


def in_rooms(http: httpx.Client, dev: dict[str, Any], told: list[Step]) -> list[tuple[str, Any]]:
    found = []
    for room in sorted({step.room for step in by_room(told)}):
        page = http.get(f"/v1/rooms/{room}/log", headers={"Authorization": f"Bearer {dev['api_key']}"}).json()
        found += [(entry["event"], entry["data"]) for entry in page["entries"]]
    return found

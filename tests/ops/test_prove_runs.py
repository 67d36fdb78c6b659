"""The proof on a real stack, with real faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.stack import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def started(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ops", "prove", "--users", "30", "--rate", "60", *arguments],
        cwd=ROOT,
        env={**os.environ, "BELLHOP_DATA_DIR": str(data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_being_asked_to_stop_leaves_nothing(tmp_path: Path) -> None:
    with started(tmp_path / "data", "--seconds", "60", "--faults", "freeze-worker,freeze-socket") as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "freeze" in line and " for " in line:
                    break
            below = psutil.Process(process.pid).children(recursive=True)
            assert len(below) > 10
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(60) == 130, said
        finally:
            process.kill()
    assert "everything was stopped" in said
    end = time.monotonic() + 10
    while left := [each for each in below if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < end, left
        time.sleep(0.1)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".gitignore"]


@pytest.mark.timeout(400)
def test_a_short_run_with_real_faults_keeps_every_promise(tmp_path: Path) -> None:
    kinds = "kill-worker,kill-socket,drain-socket,flushall,kill-postgres,drop-clients,deaf-clients"
    with started(tmp_path / "data", "--seconds", "22", "--seed", "3", "--faults", kinds) as process:
        try:
            output, errors = process.communicate(timeout=380)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    (line,) = map(json.loads, output.splitlines())
    assert line["violation"] is None
    assert set(line["faults"]) == set(kinds.split(","))
    for name in ("accepted", "dispatched", "deliveries", "expired", "actions", "frames", "reconnects"):
        assert line[name] > 0, name
    for name in ("events", "presence_changes", "digests", "gathered", "translated", "misfits"):
        assert line[name] > 0, name
    assert line["audit_faults"] == 0
    left = line["accepted"] + line["digests"] - line["dispatched"] - line["expired"]
    assert 0 <= left <= line["cancelled"] + line["digests"]
    assert line["complaints"] == {}
    assert "every promise was kept" in errors
    assert "longest time to converge" in errors
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".gitignore"]

"""The list of processes, ports, private files and log lines."""

from __future__ import annotations

import io
import socket
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from models.settings import Settings
from models.states import Queue
from ops.log_lines import LogLines
from ops.ports import PortTakenError, free_ports, reachable_host, require_free
from ops.private_files import make_data_dir, read_or_make, write_private
from ops.processes import SHARED_QUEUES, Ports, stack

if TYPE_CHECKING:
    from pathlib import Path


def test_every_queue_has_a_worker_and_critical_has_its_own() -> None:
    assert {*SHARED_QUEUES, Queue.CRITICAL} == set(Queue)
    assert Queue.CRITICAL not in SHARED_QUEUES


def test_socket_nodes_stand_on_consecutive_ports(tmp_path: Path) -> None:
    settings = Settings(socket_port=9100, socket_nodes=3)
    specs = {spec.name: spec for spec in stack(settings, Ports.choose(settings), tmp_path)}
    assert [specs[name].env["BELLHOP_SOCKET_PORT"] for name in ("socket", "socket-2", "socket-3")] == [
        "9100",
        "9101",
        "9102",
    ]
    assert specs["socket-3"].ready_url == "http://127.0.0.1:9102/health/ready"
    assert specs["worker"].env["PROMETHEUS_MULTIPROC_DIR"] != specs["worker-critical"].env["PROMETHEUS_MULTIPROC_DIR"]


def test_a_process_runs_in_this_interpreter_and_flowers_password_is_not_in_its_command(tmp_path: Path) -> None:
    settings = Settings(flower_basic_auth="me:hidden")  # type: ignore[arg-type]
    specs = {spec.name: spec for spec in stack(settings, Ports.choose(settings), tmp_path)}
    assert specs["api"].command == [sys.executable, "-m", "api"]
    assert specs["flower"].env == {"FLOWER_BASIC_AUTH": "me:hidden"}
    assert "hidden" not in " ".join(specs["flower"].command)


def test_port_0_means_a_free_one() -> None:
    ports = Ports.choose(Settings(api_port=0, socket_port=0, flower_port=0, socket_nodes=2))
    assert ports.api > 0
    assert ports.sockets[1] == ports.sockets[0] + 1


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} .* BELLHOP_API_PORT"):
            require_free("127.0.0.1", [(port, "BELLHOP_API_PORT")])
    require_free("127.0.0.1", [(free_ports(2)[1], "BELLHOP_API_PORT")])


@pytest.mark.parametrize(("bound", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.1", "10.0.0.1")])  # noqa: S104
def test_a_server_on_all_addresses_is_reached_on_loopback(bound: str, reached: str) -> None:
    assert reachable_host(bound) == reached


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    data_dir = make_data_dir(tmp_path / "data")
    made = read_or_make(data_dir / "secret", lambda: "one")
    assert read_or_make(data_dir / "secret", lambda: "two") == made == "one"
    assert stat.S_IMODE((data_dir / "secret").stat().st_mode) == 0o600
    write_private(data_dir / "secret", "three")
    assert sorted(path.name for path in data_dir.iterdir()) == [".gitignore", "secret"]


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain, piped = Terminal(), Terminal(), io.StringIO()
    LogLines(coloured).say("api", "up", loud=True)
    monkeypatch.setenv("NO_COLOR", "1")
    LogLines(plain).say("api", "up")
    LogLines(piped).say("api", "up", loud=True)
    assert "\x1b[" in coloured.getvalue()
    assert plain.getvalue() == piped.getvalue() == "api             | up\n"


def test_nobody_reading_stops_nothing() -> None:
    out = io.StringIO()
    lines = LogLines(out)
    out.close()
    lines.say("api", "up")

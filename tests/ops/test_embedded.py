"""The embedded servers: their rights, their restarts, their end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from ops.data_lock import DataDirLockedError
from ops.embedded import EmbeddedPostgres, EmbeddedServerError, embedded_servers

_HOLD = """
import sys, time
from pathlib import Path
from ops.embedded import embedded_servers
with embedded_servers(Path(sys.argv[1])) as servers:
    print(servers.postgres_pid, servers.redis_pid, flush=True)
    time.sleep(600)
"""


def test_servers_answer_and_keep_their_urls_over_a_kill(tmp_path: Path) -> None:
    with embedded_servers(tmp_path / "data") as servers:
        with psycopg.connect(servers.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        os.kill(servers.postgres_pid, signal.SIGKILL)
        os.kill(servers.redis_pid, signal.SIGKILL)
        servers.restart_postgres()
        servers.restart_redis()
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.ping()
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_only_the_owner_reads_the_data_and_a_password_is_needed(tmp_path: Path) -> None:
    with embedded_servers(tmp_path / "data") as servers:
        assert stat.S_IMODE((tmp_path / "data" / "postgres").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "data" / "postgres_password").stat().st_mode) == 0o600
        scheme, _, rest = servers.database_url.partition("://")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{scheme}://bellhop:wrong@{rest.partition('@')[2]}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as someone else")
def test_a_private_directory_above_stays_private(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with embedded_servers(private / "data") as servers:
        assert psutil.Process(servers.postgres_pid).uids().real != 0
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_second_owner_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    with (
        embedded_servers(tmp_path),
        pytest.raises(DataDirLockedError, match=str(os.getpid())),
        embedded_servers(tmp_path),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_a_killed_owner_leaves_no_server_and_a_directory_that_starts_again(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    with owner:
        assert owner.stdout is not None
        children = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
        owner.kill()
    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=15)[1] == []
    with embedded_servers(tmp_path) as servers, psycopg.connect(servers.database_url):
        pass


def test_a_lock_file_that_names_another_program_is_cleared(tmp_path: Path) -> None:
    with embedded_servers(tmp_path):
        pass
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    with embedded_servers(tmp_path) as servers, psycopg.connect(servers.database_url):
        pass


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "precious").write_text("mine")
    with pytest.raises(EmbeddedServerError, match="precious"):
        EmbeddedPostgres(tmp_path).prepare()
    assert (tmp_path / "postgres" / "precious").read_text() == "mine"


def test_a_lost_password_is_said(tmp_path: Path) -> None:
    with embedded_servers(tmp_path):
        pass
    (tmp_path / "postgres_password").unlink()
    with pytest.raises(EmbeddedServerError, match="postgres_password"), embedded_servers(tmp_path):
        pass
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()

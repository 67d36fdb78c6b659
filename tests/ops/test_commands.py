"""The command line, against a real database and without a running stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from models.database import connect
from models.keys import list_keys
from ops.__main__ import app
from ops.commands.tail import line_of
from ops.proof import ProofError, prove
from tests.workers.test_digest import say, titles
from tests.workers.test_fan_out import finish

if TYPE_CHECKING:
    from pathlib import Path

    from models.database import Connection

_SECRET = "a secret of more than thirty-two characters"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    for name in ("BELLHOP_DATABASE_URL", "BELLHOP_REDIS_URL", "BELLHOP_SECRET_KEY", "BELLHOP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BELLHOP_DATA_DIR", str(tmp_path))
    return CliRunner()


@pytest.fixture
def found(bare: CliRunner, tmp_path: Path, database_url: str, redis_url: str) -> CliRunner:
    stack = {"database_url": database_url, "redis_url": redis_url, "secret_key": _SECRET, "api_key": "bh_x"}
    (tmp_path / "dev.json").write_text(json.dumps({**stack, "api_url": "http://127.0.0.1:1", "socket_urls": []}))
    return bare


def test_without_a_stack_a_command_says_how_to_get_one(bare: CliRunner) -> None:
    for command in (
        ["token", "u_1"],
        ["keys", "list"],
        ["send", "--to", "u_1", "--title", "x"],
        ["parked", "list"],
        ["digests", "list", "a"],
    ):
        result = bare.invoke(app, command)
        assert result.exit_code == 1
        assert "make run" in result.stderr


def test_a_wrong_setting_is_named_without_a_trace(bare: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLHOP_API_PORT", "99999")
    result = bare.invoke(app, ["up"])
    assert result.exit_code == 2
    assert "BELLHOP_API_PORT" in result.stderr
    assert "Traceback" not in result.stderr


def test_keys_are_made_listed_and_revoked(found: CliRunner, database_url: str) -> None:
    made = found.invoke(app, ["keys", "create", "--name", "ci", "--scope", "notifications:write", "--domain", "shop"])
    key = made.stdout.strip()
    assert key.startswith("bh_")
    assert [row["scopes"] for row in list_keys(database_url)] == [["notifications:write"]]
    listed = found.invoke(app, ["keys", "list"]).stdout
    assert "ci" in listed
    assert key not in listed
    assert found.invoke(app, ["keys", "revoke", key]).exit_code == 0
    assert found.invoke(app, ["keys", "revoke", key]).exit_code == 1
    assert "revoked" in found.invoke(app, ["keys", "list"]).stdout


def test_a_tenants_secret_is_changed_without_locking_anybody_out(found: CliRunner, database_url: str) -> None:
    found.invoke(app, ["keys", "create", "--tenant", "acme"])

    def secrets() -> tuple[str, str | None]:
        with connect(database_url) as connection:
            (row,) = connection.execute("SELECT secret, previous_secret FROM tenant WHERE id = 'acme'").fetchall()
        return row["secret"], row["previous_secret"]

    first, _ = secrets()
    rotated = found.invoke(app, ["tenants", "rotate-secret", "acme"])
    second, previous = secrets()
    assert (second != first, previous) == (True, first)
    assert (rotated.exit_code, rotated.stdout.strip()) == (0, second)  # shown this once, as over REST
    assert "acme" in found.invoke(app, ["tenants", "list"]).stdout
    assert "two secrets" in found.invoke(app, ["tenants", "list"]).stdout
    assert found.invoke(app, ["tenants", "end-rotation", "acme"]).exit_code == 0
    assert secrets() == (second, None)
    for tenant in ("nowhere", "default"):
        assert found.invoke(app, ["tenants", "rotate-secret", tenant]).exit_code == 1


def test_a_tenants_provider_is_set_and_removed(found: CliRunner) -> None:
    found.invoke(app, ["keys", "create", "--tenant", "acme"])
    url = "https://id.example.com/jwks.json"
    assert found.invoke(app, ["tenants", "set-jwks", "acme", url]).exit_code == 0
    assert url in found.invoke(app, ["tenants", "list"]).stdout
    assert found.invoke(app, ["tenants", "set-jwks", "acme"]).exit_code == 0
    assert url not in found.invoke(app, ["tenants", "list"]).stdout
    assert found.invoke(app, ["tenants", "set-jwks", "acme", "http://id.example.com"]).exit_code == 2
    assert found.invoke(app, ["tenants", "set-jwks", "nowhere", url]).exit_code == 1


def test_a_tenant_is_made_limited_and_deleted(found: CliRunner) -> None:
    made = found.invoke(app, ["tenants", "create", "acme"])
    assert len(made.stdout.strip()) >= 32
    assert found.invoke(app, ["tenants", "create", "acme"]).exit_code == 1
    assert found.invoke(app, ["tenants", "create", "No Good"]).exit_code == 2
    assert found.invoke(app, ["tenants", "set-limit", "acme", "50"]).exit_code == 0
    assert found.invoke(app, ["tenants", "set-retention", "acme", '{"*": {"items": 50}}']).exit_code == 0
    listed = found.invoke(app, ["tenants", "list"]).stdout
    assert "50/s" in listed
    assert '"items":50' in listed
    assert made.stdout.strip() not in listed
    for wrong in (["set-limit", "acme", "-5"], ["set-retention", "acme", "{"], ["set-retention", "acme", "{}"]):
        assert found.invoke(app, ["tenants", *wrong]).exit_code == 2
    misnamed = found.invoke(app, ["tenants", "set-retention", "acme", '{"shop": {"items": 5}}'])
    assert (misnamed.exit_code, "retention/shop: Must have the form" in misnamed.stderr) == (2, True)
    assert found.invoke(app, ["tenants", "set-limit", "acme"]).exit_code == 0
    assert found.invoke(app, ["tenants", "set-retention", "acme"]).exit_code == 0
    listed = found.invoke(app, ["tenants", "list"]).stdout
    assert ("50/s" in listed, "items" in listed) == (False, False)
    assert found.invoke(app, ["tenants", "delete", "acme"]).exit_code == 0
    assert "acme" not in found.invoke(app, ["tenants", "list"]).stdout
    assert found.invoke(app, ["tenants", "delete", "default"]).exit_code == 1


def test_a_key_makes_no_tenant_of_a_name_of_which_something_is_left(found: CliRunner, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('acme', 'u_1'), ('default', 'u_1')")
    refused = found.invoke(app, ["keys", "create", "--tenant", "acme"])
    assert (refused.exit_code, "The tenant acme still has inboxes" in refused.stderr) == (1, True)
    assert found.invoke(app, ["tenants", "create", "acme"]).stderr == refused.stderr
    assert "acme" not in found.invoke(app, ["tenants", "list"]).stdout + found.invoke(app, ["keys", "list"]).stdout
    assert found.invoke(app, ["keys", "create"]).exit_code == 0, "the default one is always there"
    with connect(database_url) as connection:
        connection.execute("DELETE FROM inbox WHERE tenant = 'acme'")
    assert found.invoke(app, ["keys", "create", "--tenant", "acme"]).exit_code == 0
    with connect(database_url) as connection:
        connection.execute("INSERT INTO inbox (tenant, user_id) VALUES ('acme', 'u_1')")
    assert found.invoke(app, ["keys", "create", "--tenant", "acme"]).exit_code == 0, "it was made before it had any"


def test_a_tenant_takes_registered_types_only_and_then_all_again(found: CliRunner) -> None:
    found.invoke(app, ["keys", "create", "--tenant", "default"])
    assert "catalogue only" in found.invoke(app, ["tenants", "require-types", "default"]).stdout
    assert "registered types only" in found.invoke(app, ["tenants", "list"]).stdout
    assert "all types" in found.invoke(app, ["tenants", "require-types", "default", "--off"]).stdout
    assert "registered types only" not in found.invoke(app, ["tenants", "list"]).stdout
    nowhere = found.invoke(app, ["tenants", "require-types", "nowhere"])
    assert (nowhere.exit_code, "There is no tenant 'nowhere'" in nowhere.output) == (1, True)


def test_a_wrong_tenant_is_refused(found: CliRunner) -> None:
    assert found.invoke(app, ["keys", "create", "--tenant", "No Good"]).exit_code == 2


def test_a_token_is_minted_from_the_stacks_secret(found: CliRunner) -> None:
    assert found.invoke(app, ["token", "u_1", "--ttl", "60"]).stdout.count(".") == 2
    assert found.invoke(app, ["token", "u_1", "--tenant", "acme"]).exit_code == 1


def test_migrate_says_where_the_database_is(found: CliRunner) -> None:
    assert "as before" in found.invoke(app, ["migrate"]).stdout


def test_check_config_shows_sources_and_hides_secrets(found: CliRunner, database_url: str) -> None:
    result = found.invoke(app, ["check-config"])
    assert result.exit_code == 0, result.output
    assert _SECRET not in result.stdout
    assert database_url.partition("@")[0] not in result.stdout
    assert "[dev.json]" in result.stdout
    assert "ok    Postgres" in result.stdout
    assert "ok    Valkey" in result.stdout


def test_check_config_finds_what_is_wrong(bare: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLHOP_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("BELLHOP_REDIS_URL", "redis://127.0.0.1:1/0")
    result = bare.invoke(app, ["check-config"])
    assert result.exit_code == 1
    assert result.stdout.count("WRONG") == 2


def test_a_database_without_tables_is_said(found: CliRunner, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("DROP TABLE api_key CASCADE")
    result = found.invoke(app, ["keys", "list"])
    assert result.exit_code == 1
    assert "migrate" in result.stderr


def test_digests_are_listed_and_closed(found: CliRunner, connection: Connection) -> None:
    assert "Nothing waits" in found.invoke(app, ["digests", "list", "a"]).stderr
    assert found.invoke(app, ["digests", "close", "a"]).exit_code == 1
    for nth in range(2):
        say(connection, f"t{nth}", digest_key="k")
    finish(connection)
    listed = found.invoke(app, ["digests", "list", "a"]).stdout
    assert "type=blog.post.published  key=k" in listed
    assert listed.strip().endswith("count=2  title=t1")
    assert "1 closed" in found.invoke(app, ["digests", "close", "a"]).stdout
    finish(connection)
    assert titles(connection) == [["t0", "t1"]]


def test_parked_is_listed_and_replayed(found: CliRunner) -> None:
    assert "Nothing is parked" in found.invoke(app, ["parked", "list"]).stderr
    assert "0 put back" in found.invoke(app, ["parked", "replay", "--all"]).stdout
    assert found.invoke(app, ["parked", "replay"]).exit_code == 2


def test_send_says_when_nobody_answers_and_refuses_bad_data(found: CliRunner) -> None:
    result = found.invoke(app, ["send", "--to", "u_1", "--title", "x"])
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
    for data in ("{", "[]"):
        assert found.invoke(app, ["send", "--to", "u_1", "--title", "x", "--data", data]).exit_code == 2


def test_entries_are_one_readable_line() -> None:
    item = {"created_at": "T", "priority": "high", "type": "a.b", "title": "Two\nlines", "body": "more"}
    assert line_of({"seq": 1, "kind": "arrival", "item": item}) == "#1 T [high] a.b Two lines: more"
    assert line_of({"seq": 2, "kind": "change", "action": "read", "seqs": [1, 3], "at": "T"}) == "#2 T read #1, #3"
    assert line_of({"seq": 2, "kind": "change", "action": "read", "up_to": 0, "at": "T"}) == "#2 T read up to #0"


async def test_a_proof_that_fails_says_how_far_it_came() -> None:
    with pytest.raises(ProofError, match="asking for a token"):
        await prove("http://127.0.0.1:1", "http://127.0.0.1:1", "bh_x")

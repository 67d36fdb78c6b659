"""The rules that the code keeps and no linter knows. Layers are import-linter's; style is Ruff's."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.spread import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGES = ("api", "models", "ops", "socket_server", "workers")
LONGEST = 400
VAGUE_NAMES = {"utils", "helpers", "common", "core", "services", "misc", "manager"}
READERS_OF_THE_ENVIRONMENT = ("ops/", "models/settings.py", "workers/process.py")


@cache
def sources() -> list[tuple[str, ast.Module]]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    named = [(path.relative_to(ROOT).as_posix(), path) for path in paths]
    return [(name, ast.parse(path.read_text())) for name, path in named if "node_modules" not in name]


def calls(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield what a call is made on and the method's name: `a.b.commit()` gives ("a.b", "commit")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr


def test_only_the_database_module_begins_and_ends_transactions() -> None:
    owners = {
        name
        for name, tree in sources()
        for on, method in calls(tree)
        if method in {"commit", "rollback"} or (method == "transaction" and "database" not in on)
    }
    assert owners == {"models/database.py"}


def test_only_settings_and_programs_that_start_others_read_the_environment() -> None:
    readers = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {each.name for each in node.names} & {"environ", "getenv"}
        )
    }
    assert {name for name in readers if not name.startswith(READERS_OF_THE_ENVIRONMENT)} == set()
    assert "workers/process.py" in readers  # the check sees what there is to see


def test_statements_on_tables_stand_in_queries_only() -> None:
    statement = re.compile(r"\s*(SELECT .* FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|WITH \w+ AS)\b", re.DOTALL)
    holders = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.match(node.value)
    }
    outside = {name for name in holders if not name.startswith(("models/queries/", "models/migrations/"))}
    assert {name for name in outside if not name.startswith("ops/")} == set()  # ops asks about servers, not our tables
    assert "models/queries/dispatch.py" in holders


def test_keys_of_redis_are_named_in_one_place() -> None:
    namers = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"bellhop:\S", node.value)
    }
    assert namers == {"models/redis_keys.py"}


def test_no_module_is_longer_than_one_thing() -> None:
    lengths = {name: (ROOT / name).read_text().count("\n") for name, _ in sources()}
    assert {name for name, lines in lengths.items() if lines > LONGEST} == set()


def test_every_module_is_named_for_what_it_is() -> None:
    assert {name for name, _ in sources() if VAGUE_NAMES & set(re.split(r"[/_.]", name))} == set()


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    described = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert described == set(phony[1].split())


@pytest.mark.parametrize("document", ["README.md", "docs/decisions/README.md"])
def test_links_to_files_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readme_names_every_common_setting() -> None:
    from models.settings import Settings  # noqa: PLC0415  # what it is compared with

    named = set(re.findall(r"BELLHOP_([A-Z_]+)", (ROOT / "README.md").read_text()))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_nothing_names_a_machine_or_where_packages_come_from() -> None:
    locks = [ROOT / "requirements.lock", ROOT / "requirements-dev.lock"]
    assert [path.name for path in locks if "://" in path.read_text() or "index" in path.read_text()] == []
    assert '"resolved"' not in (ROOT / "ops/bench/peers/node/package-lock.json").read_text()
    somebodys = re.compile(r"/(root|home/\w+|Users/\w+)/")
    texts = [*(ROOT / name for name, _ in sources()), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert [path.name for path in texts if somebodys.search(path.read_text())] == []


def test_whatever_starts_a_whole_engine_waits_for_its_turn() -> None:
    starts = re.compile(r'\brunning_stack\(|sys\.executable, "-m", "ops"|\bLab\.stack\(|\bEngine\(settings')
    starters = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if path.name.startswith(("test_", "conftest")) and starts.search(path.read_text())
    }
    assert {name for name in starters if not name.startswith(ENGINES)} == set()
    assert all(any(name.startswith(engine) for name in starters) for engine in ENGINES)

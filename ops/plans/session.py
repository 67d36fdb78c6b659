"""One call of `python -m ops plans`: a Postgres of its own, filled, asked, and thrown away.

The plans are asked for on one connection, one after another. Nothing that runs elsewhere is touched.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from models.database import connect
from models.migrate import upgrade
from models.settings import SettingsError, load_settings
from ops.data_lock import DataDirLockedError
from ops.embedded import EmbeddedServerError, embedded_servers
from ops.plans.explain import Explainer, Kind
from ops.plans.fill import Size, fill, row_counts, tidy_up
from ops.plans.report import Circumstances, Finding, as_document, as_text, exit_status
from ops.plans.statements import Sample, hot_statements
from ops.private_files import make_data_dir
from ops.system_user import NoSystemUserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.database import Connection

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "plans.md"
# A throwaway: what a crash would lose matters to nobody. Statistics are collected once, by us, so that the same rows
# give the same plans.
_OPTIONS = ("fsync=off", "max_wal_size=8GB", "autovacuum=off")
_INTERRUPTED = 130


def run(deliveries: int, *, write: bool) -> int:
    """Ask for all plans and print them; with `write`, put them into the documentation. Returns the exit status."""
    size = Size.of(deliveries)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end in the same orderly way
    try:
        data_dir = make_data_dir(load_settings().data_dir)
        with tempfile.TemporaryDirectory(prefix="plans-", dir=data_dir) as throwaway:
            findings, circumstances = _look(Path(throwaway) / "servers", size)
    except (SettingsError, EmbeddedServerError, DataDirLockedError, NoSystemUserError, psycopg.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; everything was stopped.\n")
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.stdout.write(as_text(findings))
    if write:
        DOCUMENT.write_text(as_document(findings, circumstances), encoding="utf-8")
        _say(f"written: {DOCUMENT.relative_to(DOCUMENT.parents[1])}")
    return exit_status(findings)


def _look(directory: Path, size: Size) -> tuple[list[Finding], Circumstances]:
    _say("starting a Postgres of its own")
    with embedded_servers(directory, postgres_options=_OPTIONS) as servers:
        upgrade(servers.database_url)
        fill(servers.database_url, size, say=_say)
        _say("collecting statistics")
        tidy_up(servers.database_url)
        with connect(servers.database_url) as connection:
            command = f"python -m ops plans --deliveries {size.deliveries} --write"
            version = f"PostgreSQL {connection.info.parameter_status('server_version')}"
            circumstances = Circumstances(command, version, row_counts(connection))
            _say("asking for plans")
            return list(look(connection, size)), circumstances


def look(connection: Connection, size: Size) -> Iterator[Finding]:
    """Yield what there is to say about each hot statement, on a database that is filled to that size."""
    explainer = Explainer(connection)
    for hot in hot_statements(size, Sample.of(connection)):
        yield Finding(hot, explainer.plan(hot, Kind.CUSTOM), explainer.plan(hot, Kind.GENERIC))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()

"""`audit`: whether everything that was accepted is where it must be. What is compared stands in `models.audit`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from models.audit import STATES
from models.audit import audit as look
from ops.commands.database_errors import say_database_errors
from ops.running_stack import find_stack

if TYPE_CHECKING:
    from models.audit import Audit

_OTHERS = ("inboxes", "deliveries", "changes")


def audit(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many faults to name")] = 20,
    metrics: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Where to write the sums for Prometheus' node exporter, too")
    ] = None,
) -> None:
    """Check that accepted = ended + on its way, and every inbox's numbers and counts. Status 1 where it does not hold.

    It changes nothing and stops nobody, but reads whole tables: of a large database, better a replica or a quiet hour.
    """
    database_url = find_stack().need("database_url")
    with say_database_errors():
        found = look(database_url, limit)
    rows = {"accepted": found.accepted, **{f"  {state}": found.counts[state] for state in STATES}}
    rows |= {name: found.counts[name] for name in _OTHERS} | {"faults": found.faults}
    width = max(len(f"{number:,}") for number in rows.values())
    for name, number in rows.items():
        typer.echo(f"{name:<12} {number:>{width},}")
    for what, fault in found.some:
        typer.echo(f"{what} {fault}", err=True)
    if left := found.faults - len(found.some):
        typer.echo(f"and {left:,} more; --limit names more of them", err=True)
    if metrics is not None:
        _write(found, metrics)
    raise typer.Exit(1 if found.faults else 0)


def _write(found: Audit, path: Path) -> None:
    """Replace the file at once: whoever reads it sees all of the old or the new one."""
    registry = CollectorRegistry()
    Gauge("bellhop_audit_faults", "What the last audit found wrong", registry=registry).set(found.faults)
    Gauge("bellhop_audit_timestamp_seconds", "When that was", registry=registry).set_to_current_time()
    states = Gauge("bellhop_audit_notifications", "Where they were", ["state"], registry=registry)
    for state in STATES:
        states.labels(state).set(found.counts[state])
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        typer.echo(f"{path} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None

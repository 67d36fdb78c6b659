"""What a person at a terminal sees: one aligned line per arrival, and a table at the end."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import typer

from ops.demo.ledger import EVENT, NOTIFICATION, Domain

if TYPE_CHECKING:
    from ops.demo.ledger import Ledger

_STYLES: dict[str, dict[str, Any]] = {
    "critical": {"fg": "red", "bold": True},
    "high": {"fg": "yellow"},
    "low": {"dim": True},
    "room": {"fg": "cyan"},
    "change": {"fg": "green"},
}
_WIDTH = 120  # where it is no terminal
_SHORTEST_TEXT = 20
_MOST_FAULTS = 10
_FIGURE_WIDTHS = (15, 9, 17, 9, 15, 9)  # of the figures at the end


@dataclass(frozen=True, slots=True)
class Line:
    """One arrival: of which domain, how urgent or else what it is, for whom or in which room, and what it says."""

    domain: str
    what: str
    to: str
    text: str

    @classmethod
    def of_item(cls, item: dict[str, Any], to: str) -> Line:
        """Return the line of a notification."""
        collapsed = f"  (and {item['collapsed']} more)" if item["collapsed"] else ""
        return cls(item["domain"], item["priority"], to, " ".join(item["title"].split()) + collapsed)

    @classmethod
    def of_change(cls, entry: dict[str, Any], to: str, unread: int) -> Line:
        """Return the line of what the user did to items, on whichever device."""
        which = f"up to {entry['up_to']}" if entry.get("up_to") is not None else str(entry.get("seqs"))
        return cls("", "change", to, f"marked as {entry['action']} {which}; {unread} left unread")

    @classmethod
    def of_event(cls, room: str, entry: dict[str, Any]) -> Line:
        """Return the line of a room's event."""
        data = "  ".join(f"{name}={value}" for name, value in entry["data"].items())
        return cls(room.partition(":")[0], "room", room, f"{entry['event']}  {data}")


class Screen:
    """Prints lines as wide as the terminal is."""

    def __init__(self) -> None:
        self._width = shutil.get_terminal_size((_WIDTH, 0)).columns

    def title(self) -> None:
        """Print what the columns are."""
        typer.secho(_columns("time", "took", "domain", "urgency", "to", "what"), underline=True)

    def show(self, line: Line, took_ms: float | None) -> None:
        """Print an arrival. `took_ms` is None where somebody else has posted it."""
        now = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        took = "" if took_ms is None else f"{took_ms:.0f} ms"
        head = _columns(now, took, line.domain, line.what, line.to, "")
        room_left = max(_SHORTEST_TEXT, self._width - len(head) - 1)
        text = line.text if len(line.text) <= room_left else f"{line.text[: room_left - 1]}…"
        typer.secho(head + text, **_STYLES.get(line.what, {}))

    def say(self, text: str) -> None:
        """Print something about the run itself."""
        typer.echo(f"-- {text}")

    def summary(self, ledger: Ledger, *, seconds: float, seed: int) -> None:
        """Print the figures, and whether every promise was kept."""
        typer.echo(f"\n{seconds:.0f} s; --seed {seed} tells the same stories again.\n")
        typer.echo(f"{'':<8}{'published':>22}{'on devices':>26}{'ms on the way':>24}")
        heads = ("notifications", "events", "notifications", "events", "typical", "slowest")
        typer.secho(_row("domain", *heads), underline=True)
        total = Domain()
        for name, domain in sorted(ledger.domains.items()):
            typer.echo(_figures(name, domain))
            total.add(domain)
        typer.secho(_figures("all", total), bold=True)
        typer.echo(f"\nEntries that came, with changes: {ledger.entries}, in {ledger.frames} frames.")
        if total.away:
            typer.echo(f"In the inboxes of people who were away: {total.away}.")
        if total.scheduled_delays:
            worst = max(total.scheduled_delays)
            typer.echo(
                f"Kept for a later time: {len(total.scheduled_delays)}, which came {worst:.0f} ms after it at most."
            )
        missing = ledger.missing()
        for fault in ledger.faults[:_MOST_FAULTS]:
            typer.secho(f"WRONG: {fault}", fg="red")
        for (_, which), device in missing[:_MOST_FAULTS]:
            typer.secho(f"MISSING: {which} at {device}", fg="red")
        if not missing and not ledger.faults:
            typer.secho("Everything arrived, once and in order.", fg="green")


def _row(*cells: str) -> str:
    name, *figures = cells
    return f"{name:<8}" + "".join(f"{figure:>{width}}" for figure, width in zip(figures, _FIGURE_WIDTHS, strict=True))


def _figures(name: str, domain: Domain) -> str:
    published, arrived, delays = domain.published, domain.arrived, domain.delays
    counts = (published[NOTIFICATION], published[EVENT], arrived[NOTIFICATION], arrived[EVENT])
    times = (f"{median(delays):.0f}", f"{max(delays):.0f}") if delays else ("-", "-")
    return _row(name, *(str(count) for count in counts), *times)


def _columns(time: str, took: str, domain: str, what: str, to: str, text: str) -> str:
    return f"{time:<12} {took:>7}  {domain:<8}  {what:<8}  {to:<23}  {text}"

"""What `python -m ops plans` says: one table of all statements, then each plan. Pure.

A plan is shown as it was for any parameters; the one for the parameters at hand stands beside it where it differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.plans.explain import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ops.plans.plan import Plan
    from ops.plans.statement import Hot

_ABOUT = """\
How the hot statements are carried out on a large set of rows, on connections opened as the product opens them: with
sequential scans and bitmap scans switched off (`models/database.py` says why). Made by

```
{command}
```

{version}. Rows: {counts}.

Every statement was prepared, as psycopg does after five executions, and carried out twice: with a plan for its
parameters (custom), and with the plan for any parameters (generic) that a connection may keep from then on. One that
writes was rolled back. *Read* counts rows of big tables, thrown-away ones included, and *pages* the 8 kB pages that
were touched, almost all of them in memory; both are the generic plan's. They are what to compare: times include what
measuring costs, and whatever else the machine was doing.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement's two plans."""

    hot: Hot
    custom: Plan
    generic: Plan

    def read_whole(self) -> list[str]:
        """Name the scans that read the whole of a big table, in either plan."""
        return list(dict.fromkeys(self.custom.read_whole() + self.generic.read_whole()))

    def wasteful(self) -> str:
        """Say in what respect the statement reads far more than it needs, in either plan."""
        return self.generic.wasteful() or self.custom.wasteful()

    def shape(self) -> object:
        """Return what is the same for statements that are carried out in the same way."""
        return self.generic.shape(), self.custom.shape()

    def lines(self) -> list[str]:
        """Return everything that there is to say, as text."""
        lines = [self.hot.purpose, ""]
        for plan, which in ((self.generic, Kind.GENERIC), (self.custom, Kind.CUSTOM)):
            if plan is self.generic or plan.shape() != self.generic.shape():
                lines += [f"{which.name.lower()} plan, {plan.execution_ms:,.2f} ms, {plan.pages:,} pages:"]
                lines += [f"  {line}" for line in plan.lines()]
        return lines


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the plans were made on. `command` repeats it."""

    command: str
    version: str
    counts: Mapping[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{table} {count:,}" for table, count in self.counts.items())
        return _ABOUT.format(command=self.command, version=self.version, counts=counts)


def exit_status(findings: Sequence[Finding]) -> int:
    """Return 1 where a big table is read whole; else 0."""
    return int(any(finding.read_whole() for finding in findings))


def as_text(findings: Sequence[Finding]) -> str:
    """Return the plans for a terminal, and the verdict at the end."""
    lines: list[str] = []
    for finding in findings:
        lines += [f"=== {finding.hot.name}", *finding.lines(), ""]
    return "\n".join([*lines, *_verdict(findings)]) + "\n"


def as_document(findings: Sequence[Finding], circumstances: Circumstances) -> str:
    """Return the page of the documentation."""
    lines = ["# Query plans", "", str(circumstances), *_verdict(findings), ""]
    lines += [
        "| statement | rows | read | pages | custom, ms | generic, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for finding in findings:
        plan = finding.generic
        cells = (f"{plan.rows:,}", f"{plan.read:,}", f"{plan.pages:,}")
        times = (f"{finding.custom.execution_ms:,.2f}", f"{plan.execution_ms:,.2f}")
        lines.append(f"| {' | '.join((finding.hot.name, *cells, *times))} |")
    lines += ["", "## The plans", ""]
    shown: dict[object, str] = {}
    for finding in findings:
        lines += [f"### {finding.hot.name}", "", finding.hot.purpose[0].upper() + finding.hot.purpose[1:] + ".", ""]
        same = shown.setdefault(finding.shape(), finding.hot.name)
        if same == finding.hot.name or finding.read_whole() or finding.wasteful():
            lines += ["```", *finding.lines()[2:], "```", ""]
        else:
            lines += [f"The plan is that of *{same}*.", ""]
    return "\n".join(lines)


def _verdict(findings: Sequence[Finding]) -> Iterator[str]:
    whole = [f"- {finding.hot.name}: {scan}" for finding in findings for scan in finding.read_whole()]
    yield from ["Read whole, which must not be:", "", *whole, ""] if whole else ["No big table is read whole.", ""]
    wasteful = [f"- {finding.hot.name}: {said}" for finding in findings if (said := finding.wasteful())]
    yield from ["Reads far more than it needs:", "", *wasteful] if wasteful else ["None reads far more than it needs."]

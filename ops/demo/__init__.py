"""`python -m ops demo`: examples that run. Seven domains publish, a few people watch, and what arrives is printed.

To see how a domain uses Bellhop, read its producer: `shop`, `tasks`, `blog`, `booking`, `learning`, `social`, `events`.
Each tells endless stories with a state, made of what REST takes: notifications for those who must know, and events for
the rooms where somebody may be looking. `cast` has the people, `story` the few words that producers share, and
`producers` lists them all.

The rest lets them speak to a real stack, through its public API only: `session` finds or starts one, `play` runs the
producers side by side, `backend` posts, `device` receives as a user's telephone does, `ledger` compares what was
published with what arrived, and `screen` prints.

Invariant: whatever was accepted arrives at every device that it is for, or the exit status is 1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What to play. No `seconds`: until it is interrupted. No `domains`: all. `pace` 2 is twice as fast as usual."""

    seconds: float | None = 30.0
    domains: tuple[str, ...] = ()
    pace: float = 1.0
    seed: int = 1


def run(options: Options) -> int:
    """Play, print, and return the exit status."""
    from ops.demo.session import play_all  # noqa: PLC0415  # loads every client library; other commands need not wait

    return play_all(options)

"""`python -m ops prove`: what is accepted arrives, once, in order, whatever is killed, frozen, cut off or filled up.

It starts a stack of its own, connects clients, posts and acts, and breaks one part after another as a seed says. Then
everything is mended, and within a stated time the database, every client and all metrics must agree. The way of a
seed: `plan` says what breaks when, `faults` breaks and mends it, `backends` post, of the types in `catalogue`, too,
`clients` receive, `actors` act, `closer` lets digests arrive, `ledger` remembers what was promised, `truth` reads the
database, `verify` compares, with `gathered` for digests and `wording` for texts, `leaks` looks at what is left over,
`report` says what was seen. docs/proof.md says what is claimed.

Invariants: nothing but the short life of some notifications depends on the wall clock; the first violation ends the
run with status 1 and the command that replays it; however it ends, no process stays.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec

_DEVELOPMENT_PACKAGES = ("picows",)  # not part of what Bellhop needs to run


@dataclass(frozen=True)
class Options:
    """What to prove. `faults` names kinds; none means all. Times are in seconds, `rate` is notifications per second."""

    seed: int = 1
    seconds: float = 90.0
    seeds: int = 1
    faults: tuple[str, ...] = ()
    keep: bool = False
    users: int = 200
    devices: int = 3
    rate: float = 150.0

    def replay(self, seed: int) -> str:
        """Return the command line that does one seed again, and keeps what it leaves behind."""
        words = ["python", "-m", "ops", "prove", "--seed", str(seed), "--seconds", f"{self.seconds:g}"]
        words += ["--users", str(self.users), "--devices", str(self.devices), "--rate", f"{self.rate:g}"]
        words += ["--faults", ",".join(self.faults)] if self.faults else []
        return shlex.join([*words, "--keep"])


def run(options: Options) -> int:
    """Prove, print, and return the exit status."""
    missing = [name for name in _DEVELOPMENT_PACKAGES if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"{', '.join(missing)} is not installed; `make prove` installs what proving needs.\n")
        return 1
    from ops.prove.session import prove_all  # noqa: PLC0415  # it imports what was just looked for

    return prove_all(options)

"""The command line, `python -m ops`. Each command stands in a file of its own below `ops/commands/`."""

from __future__ import annotations

import typer

from ops.commands.audit import audit
from ops.commands.bench import bench
from ops.commands.check_config import check_config
from ops.commands.contracts import contracts
from ops.commands.demo import demo
from ops.commands.digests import digests
from ops.commands.keys import keys
from ops.commands.migrate import migrate
from ops.commands.parked import parked
from ops.commands.plans import plans
from ops.commands.prove import prove
from ops.commands.send import send
from ops.commands.tail import tail
from ops.commands.tenants import tenants
from ops.commands.token import token
from ops.commands.up import up

app = typer.Typer(
    name="python -m ops",
    help="Run and look after Bellhop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (up, migrate, token, send, tail, check_config, audit, contracts, demo, bench, prove, plans):
    app.command()(command)
app.add_typer(keys, name="keys")
app.add_typer(tenants, name="tenants")
app.add_typer(parked, name="parked")
app.add_typer(digests, name="digests")

if __name__ == "__main__":
    app()

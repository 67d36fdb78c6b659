"""What commands say when the database cannot be used: one line instead of a trace."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import typer
from sqlalchemy.exc import OperationalError

from models.errors import BellhopError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def say_database_errors() -> Iterator[None]:
    """End the command with status 1 and a line where Postgres refuses."""
    try:
        yield
    except psycopg.errors.UndefinedTable:
        typer.echo("The database has no Bellhop tables yet; run `python -m ops migrate` first.", err=True)
        raise typer.Exit(1) from None
    except (psycopg.OperationalError, OperationalError) as error:
        typer.echo(f"The database cannot be used: {getattr(error, 'orig', None) or error}", err=True)
        raise typer.Exit(1) from None
    except BellhopError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(1) from None

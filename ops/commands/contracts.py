"""`contracts`: the generated documents of REST and sockets, and the check that they are what the code says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from models.settings import load_settings

GENERATED = Path(__file__).resolve().parents[2] / "docs" / "generated"


def contracts(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; status 1 where a document differs")] = False,  # noqa: FBT002
) -> None:
    """Write docs/generated/ from the code."""
    differing = [name for name, text in generate().items() if _read(name) != text]
    if check:
        if differing:
            names = ", ".join(differing)
            typer.echo(f"docs/generated differs from the code: {names}; run `python -m ops contracts`", err=True)
        raise typer.Exit(1 if differing else 0)
    GENERATED.mkdir(parents=True, exist_ok=True)
    for name, text in generate().items():
        (GENERATED / name).write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {', '.join(differing)}." if differing else "Nothing changed.")


def generate() -> dict[str, str]:
    """Return the documents' texts by file name."""
    from api.asyncapi import asyncapi  # noqa: PLC0415  # the whole API: only this command needs it
    from api.main import create_app  # noqa: PLC0415

    # The documents must not depend on this machine's environment; nothing connects to these.
    settings = load_settings(
        env="development",
        database_url="postgresql://unused.invalid/bellhop",
        redis_url="redis://unused.invalid/0",
        secret_key=SecretStr("unused" * 6),
    )
    documents = {"openapi.json": create_app(settings).openapi(), "asyncapi.json": asyncapi()}
    return {
        name: json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for name, document in documents.items()
    }


def _read(name: str) -> str | None:
    path = GENERATED / name
    return path.read_text(encoding="utf-8") if path.exists() else None

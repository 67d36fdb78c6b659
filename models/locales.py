"""Language tags: one way to write each, and which of several texts somebody gets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

_SCRIPT = 4  # letters, as in zh-Hant


def canonical(tag: str) -> str:
    """Return a tag as it is compared: `pt_br` and `PT-BR` are both `pt-BR`."""
    language, *rest = tag.replace("_", "-").split("-")
    return "-".join([language.lower(), *(_subtag(part) for part in rest)])


def _subtag(part: str) -> str:
    return part.title() if len(part) == _SCRIPT and part.isalpha() else part.upper()


def choose_locale(wanted: str | None, available: Container[str]) -> str | None:
    """Return the closest of `available`: the same, or without region or script. None: none is. All are canonical."""
    while wanted and wanted not in available:
        wanted = wanted.rpartition("-")[0]
    return wanted or None

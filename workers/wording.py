"""What a notification says to each recipient: the text of their locale, encoded once for all who get the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import frames
from models.locales import choose_locale

if TYPE_CHECKING:
    from models.preferences import Preferences
    from models.states import Priority


class Wording:
    """One claimed row's."""

    def __init__(self, row: dict[str, Any], priority: Priority) -> None:
        self._row = row
        self._priority = priority
        self._texts: dict[str, dict[str, str]] = row["texts"] or {}
        self._tails: dict[tuple[str | None, bool, int], bytes] = {}

    def locale_for(self, theirs: Preferences) -> str | None:
        """Return whose text a user gets; None: the one for everybody else."""
        return choose_locale(theirs.locale, self._texts) if self._texts else None

    def tail(self, locale: str | None, *, silent: bool, collapsed: int = 0) -> bytes:
        """Return the Item's JSON from behind its `seq`."""
        tail = self._tails.get((locale, silent, collapsed))
        if tail is None:
            row = self._row if locale is None else {**self._row, **self._texts[locale]}
            tail = frames.item_tail(row, self._priority, fresh=True, silent=silent, collapsed=collapsed)
            self._tails[locale, silent, collapsed] = tail
        return tail

"""Where a page of the list of notifications ended, as a text that says nothing to clients. Pure."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORM = struct.Struct(">q16s")


class Cursor(NamedTuple):
    """The place of a notification: what comes before it in the list was shown."""

    created_at: datetime
    id: UUID

    def written(self) -> str:
        """Return it as clients get it."""
        whole = _FORM.pack((self.created_at - _EPOCH) // _MICROSECOND, self.id.bytes)
        return base64.urlsafe_b64encode(whole).decode()

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Return what `written` gave. Raises `ValueError` for any other text."""
        try:
            microseconds, raw = _FORM.unpack(base64.b64decode(text, b"-_", validate=True))
            place = cls(_EPOCH + microseconds * _MICROSECOND, UUID(bytes=raw))
        except (struct.error, OverflowError) as error:
            raise ValueError(str(error)) from error
        if place.written() != text:  # the decoder is lenient
            raise ValueError(text)
        return place

"""Pages of the log: complete, contiguous, and never larger than a client can swallow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from models.pages import MAX_PAGE_BYTES, InboxPage


def row(seq: int | None, length: int = 0, head: int = 10) -> dict[str, Any]:
    names = ("action_url", "actor", "collapse_key", "expires_at", "action", "seqs", "up_to", "at")
    content = {"id": "x", "type": "a.b", "domain": "a", "title": "t", "body": "y" * length, "data": "{}"}
    box = {"head": head, "floor": 0, "unread": 1, "unseen": 1, "ord": 0, "priority": 2, "silent": False, "collapsed": 0}
    return {**box, **content, **dict.fromkeys(names), "seq": seq, "created_at": datetime(2026, 1, 1, tzinfo=UTC)}


def test_a_page_accounts_for_numbers_that_are_gone() -> None:
    page = InboxPage(2, 5, [row(4), row(6)])
    assert (page.first, page.last, [orjson.loads(entry)["seq"] for entry in page.entries]) == (3, 7, [4, 6])


def test_a_page_ends_where_it_gets_too_large() -> None:
    page = InboxPage(2, 5, [row(4, 200_000), row(6, 200_000), row(7, 10)])
    assert (page.first, page.last, len(page.entries)) == (3, 5, 1)
    assert len(page.as_frame()) < MAX_PAGE_BYTES


def test_one_entry_always_fits() -> None:
    page = InboxPage(2, 5, [row(3, 2 * MAX_PAGE_BYTES), row(4)])
    assert (page.first, page.last, len(page.entries)) == (3, 3, 1)

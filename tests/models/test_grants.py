"""A grant is a name, or a beginning with a star; nothing else opens anything."""

from __future__ import annotations

import pytest

from models.grants import granted
from models.retention import Kept, Retention


@pytest.mark.parametrize(
    ("grants", "name", "expected"),
    [
        (["shop:order:42"], "shop:order:42", True),
        (["shop:order:*"], "shop:order:42", True),
        (["shop:order:4*"], "shop:order:42", True),
        (["shop:*"], "shop:order:42", True),
        (["*"], "shop:order:42", True),
        (["blog:*", "shop:order:42"], "shop:order:42", True),
        ([], "shop:order:42", False),
        (["shop:order:4"], "shop:order:42", False),
        (["shop:order:*"], "shop:order", False),
        (["Shop:order:*"], "shop:order:42", False),
        (["shop:*:42"], "shop:order:42", False),
        (["*:order:42"], "shop:order:42", False),
        (["shop:*:*"], "shop:order:42", False),
        ([""], "shop:order:42", False),
    ],
)
def test_a_grant_opens(grants: list[str], name: str, expected: bool) -> None:
    assert granted(grants, name) is expected


def test_the_longest_pattern_says_how_much_is_kept() -> None:
    retention = Retention(
        {"*": Kept(events=1), "shop:*": Kept(events=2), "shop:order:*": Kept(events=3), "shop:order:42": Kept(events=4)}
    )
    rooms = ["blog", "shop:cart:1", "shop:order:1", "shop:order:42"]
    assert [retention.of(room).events for room in rooms] == [1, 2, 3, 4]
    assert Retention({"shop:*": Kept(events=2)}).of("blog") == Kept()

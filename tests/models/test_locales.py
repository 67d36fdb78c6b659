"""Language tags: one spelling each, and the closest text for everybody."""

from __future__ import annotations

import pytest

from models.locales import canonical, choose_locale


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("uk", "uk"),
        ("UK", "uk"),
        ("pt_br", "pt-BR"),
        ("PT-BR", "pt-BR"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
    ],
)
def test_a_tag_has_one_spelling(tag: str, expected: str) -> None:
    assert canonical(tag) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("uk", "uk"),
        ("uk-UA", "uk"),
        ("pt-BR", "pt-BR"),
        ("pt-PT", None),
        ("zh-Hant-TW", "zh-Hant"),
        ("zh-TW", None),
        ("de", None),
        ("u", None),
        ("", None),
        (None, None),
    ],
)
def test_the_closest_is_chosen_and_otherwise_none(wanted: str | None, expected: str | None) -> None:
    assert choose_locale(wanted, {"en", "uk", "pt-BR", "zh-Hant"}) == expected

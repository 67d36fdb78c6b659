"""A sentence says what the library would say, and leaves to it whatever is not in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.templates import Filling, Template, TemplateError, has_markup

SENTENCES = [
    "{{ n | plural: one: '# parcel', other: '# parcels' }} from {{ who.name }}",
    "<b>{{ word }}</b> {{ word | append: '<br>' | upcase }}",
    "{{ word }}, {{ who.name | default: 'nobody' | truncate: 9, '&' }}{{ n }}",
    "{{ n | times: 1000000000 | times: 1000000000 }} {{ who.names | join: ', ' }} {{ who }}",
    "{{ n | plus: 0.5 | round: 2 | number }} {{ n | currency: 'UAH' }} {{ word | date: 'long' }} {{ n.real }}",
    " {{ yes }} {{ nothing }} {{ who.size }} {{ word.size }} {{ who.names | size }} ",
    "{{ nothing }}",
    "{{ word }}",
    "{{ word | append: 'aaaaaaaa' | append: 'b' | escape }}\r\nmore",
]
MORE = [
    "{% if n %}{{ word }}{% endif %}",
    "{{ word | append: word }}",
    "{{ who.names[0] }}",
    "{{ who[word] }}",
    "{{ 'a' | upcase }}",
]
texts = st.text(max_size=12) | st.sampled_from(["name", "<i>&", "2026-03-01", "2026-03-01T12:00:00Z", "x" * 16_400])
numbers = st.integers(-(10**19), 10**19) | st.integers(0, 30) | st.floats(allow_nan=False, allow_infinity=False)
anything = texts | numbers | st.booleans() | st.none() | st.lists(texts, max_size=3)
data = st.fixed_dictionaries(
    {},
    optional={
        "n": numbers | anything,
        "word": texts | anything,
        "yes": st.booleans(),
        "nothing": st.none(),
        "who": st.dictionaries(st.sampled_from(["name", "names", "size"]), anything) | anything,
    },
)


def compiled(source: str, locale: str) -> Template:
    return Template(source, locale, html=has_markup(source))


def said(template: Template, values: dict[str, Any], most: int) -> tuple[str, int | str]:
    """Return the text and what its work has cost, or what is wrong."""
    filling = Filling(values, 10_000)
    try:
        return template.fill_in(filling, most), filling._left
    except TemplateError as error:
        return "wrong", str(error)


@pytest.mark.parametrize("locale", ["en", "uk"])
@pytest.mark.parametrize("source", SENTENCES)
@settings(deadline=None)
@given(values=data, most=st.sampled_from([3, 40, 4_000, 70_000]))
def test_a_sentence_is_what_the_library_makes_of_it(
    source: str, locale: str, values: dict[str, Any], most: int
) -> None:
    template, slow = compiled(source, locale), compiled(source, locale)
    assert template._sentence is not None
    slow._sentence = None
    assert said(template, values, most) == said(slow, values, most)


@pytest.mark.parametrize("source", MORE)
def test_what_is_more_than_a_sentence_is_left_to_the_library(source: str) -> None:
    assert compiled(source, "en")._sentence is None


def test_most_sentences_are_said_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Template, "_written_from", lambda *_: pytest.fail("the library was asked"))
    values = {"n": 1_234, "word": "<Ann>", "who": {"name": "Bob", "names": ["x"], "size": 3}, "yes": True, "nothing": 0}
    told = [said(compiled(source, "en"), values, 4_000)[0] for source in SENTENCES[:3]]
    assert told == ["1,234 parcels from Bob", "<b>&lt;Ann&gt;</b> &LT;ANN&GT;<BR>", "<Ann>, Bob1234"]

"""Templates: plurals and dates as each language has them, and no way to loop for ever, read a file or reach Python."""

from __future__ import annotations

import time
from typing import Any

import pytest
from babel import Locale
from babel.numbers import format_decimal

from api.templates import Filling, Template, TemplateError, has_markup

PARCELS = "{{ n | plural: one: '# посилка', few: '# посилки', many: '# посилок', other: '# посилки' }}"
AT = "2026-03-01T12:00:00Z"
LONG = list(range(3_000))


def filled(source: str, locale: str = "en", *, most: int = 4_000, **data: Any) -> str:
    template = Template(source, locale, html=has_markup(source))
    return template.fill_in(Filling(data), most)


# --- languages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 посилок"),
        (1, "1 посилка"),
        (2, "2 посилки"),
        (4, "4 посилки"),
        (5, "5 посилок"),
        (11, "11 посилок"),
        (12, "12 посилок"),
        (21, "21 посилка"),
        (22, "22 посилки"),
        (111, "111 посилок"),
        (1.5, "1,5 посилки"),
        (-1, "-1 посилка"),
        (12_345, "12\xa0345 посилок"),
    ],
)
def test_ukrainian_plurals(n: float, text: str) -> None:
    assert filled(PARCELS, "uk", n=n) == text


@pytest.mark.parametrize(
    ("locale", "n", "text"), [("en", 1, "1 parcel"), ("en", 2, "2 parcels"), ("ja", 1, "1 parcels"), ("ar", 0, "none")]
)
def test_plurals_go_by_the_templates_locale(locale: str, n: int, text: str) -> None:
    zero = "zero: 'none', " if locale == "ar" else ""
    one = "one: '# parcel', " if locale != "ja" else ""
    assert filled(f"{{{{ n | plural: {zero}{one}other: '# parcels' }}}}", locale, n=n) == text


@pytest.mark.parametrize(
    ("source", "locale", "text"),
    [
        ("{{ at | date: 'long' }}", "uk", "1 березня 2026\u202f\u0440."),
        ("{{ at | date: 'long' }}", "en", "March 1, 2026"),
        ("{{ day | date: 'short' }}", "de", "01.03.26"),
        ("{{ at | time: zone: 'Europe/Kyiv' }}", "uk", "14:00"),
        ("{{ at | datetime: 'short', 'Europe/Kyiv' }}", "uk", "01.03.26, 14:00"),
        ("{{ n | number }}", "de", "1.234,5"),
        ("{{ n | currency: 'UAH' }}", "uk", "1\xa0234,50\xa0₴"),
        ("{{ part | percent }}", "en", "25%"),
    ],
)
def test_dates_and_numbers_go_by_the_templates_locale(source: str, locale: str, text: str) -> None:
    assert filled(source, locale, at=AT, day="2026-03-01", n=1234.5, part=0.25) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if who %}{{ who }}{% else %}Somebody{% endif %} wrote", "Somebody wrote"),
        ("{{ who | default: 'Somebody' }} wrote", "Somebody wrote"),
        ("{{ zero | default: 9 }}", "0"),
        ("{% for each in names %}{{ each }}{% unless forloop.last %}, {% endunless %}{% endfor %}", "Ann, Bob"),
        ("{{ names | join: ' & ' | upcase }} ({{ names | size }})", "ANN & BOB (2)"),
        ("{% case zero %}{% when 0 %}none{% else %}some{% endcase %}", "none"),
        ("{% assign twice = zero | plus: 2 | times: 2 %}{{ twice }}{% # said twice %}", "4"),
        ("{{ names[1] | append: '!' | truncate: 3 }}", "Bo…"),
        ("{{ names | first | downcase | capitalize }} {{ names | last }}", "Ann Bob"),
        ("{{ part | round: 1 }} {{ part | ceil }} {{ part | floor }} {{ part | at_most: 2 }}", "2.5 3 2 2"),
        ("{{ 7 | divided_by: 2 }} {{ 7 | modulo: 2 }} {{ 7 | minus: 9 | abs }} {{ 1 | at_least: 4 }}", "3 1 2 4"),
        ("{{ 'one two three' | truncatewords: 2 }} {{ ' x ' | strip | prepend: '>' }}", "one two… >x"),
    ],
)
def test_what_a_template_can_do(source: str, text: str) -> None:
    assert filled(source, names=["Ann", "Bob"], zero=0, part=2.54) == text


# --- HTML ------------------------------------------------------------------------------------------------------------


def test_what_is_filled_into_markup_is_escaped() -> None:
    attack = "<script>alert('x')</script>"
    escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"
    assert filled("<b>{{ name }}</b>", name=attack) == f"<b>{escaped}</b>"
    assert filled("<b>{{ name | append: '<br>' }}</b>", name=attack) == f"<b>{escaped}<br></b>"
    assert filled("<i>{{ names | join: '<br>' }}</i>", names=[attack, "x"]) == f"<i>{escaped}<br>x</i>"
    assert filled("<i>{{ names | join: sep }}</i>", names=["x", "x"], sep=attack) == f"<i>x{escaped}x</i>"
    assert filled("<i>{{ n | plural: one: a, other: a }}</i>", n=1, a=attack) == f"<i>{escaped}</i>"


@pytest.mark.parametrize(
    "source", ["5&nbsp;kg {{ n }}", "a &#38; b {{ n }}", "&#x2014; {{ n }}", "<br>{{ n }}", "{{ n }}</p>"]
)
def test_a_tag_or_an_entity_is_markup(source: str) -> None:
    assert has_markup(source)


@pytest.mark.parametrize("source", ["{{ n }} < 5", "Tom & Anna; {{ n }}", "a &b {{ n }}", "I <3 {{ n }}", "&#;"])
def test_what_only_looks_like_markup_is_text(source: str) -> None:
    assert not has_markup(source)


def test_without_markup_text_stays_text_unless_it_is_asked_for() -> None:
    assert filled("{{ name }}", name="Tom & Anna's") == "Tom & Anna's"
    assert filled("{{ name | escape }}", name="Tom & Anna's") == "Tom &amp; Anna&#39;s"


# --- bad templates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "because"),
    [
        ("{% for i in (1..1000000000000) %}x{% endfor %}", "there are no ranges"),
        ("{{ (1..1000000000000) | join: ' ' }}", "there are no ranges"),
        ("{% if a == (1..b) %}x{% endif %}", "there are no ranges"),
        ("{% include '/etc/passwd' %}", "unexpected tag 'include'; there are assign"),
        ("{% render 'other' %}", "unexpected tag 'render'"),
        ("{% extends 'other' %}", "unexpected tag 'extends'"),
        ("{{ n.__class__.__mro__ }}", "is no name of a value"),
        ("{{ n['__class__'] }}", "is no name of a value"),
        ("{% if n %}{{ x[n.__init__] }}{% endif %}", "is no name of a value"),
        ("{{ ''.__class__ }}", "expected end of expression"),
        ("{{ n | system }}", "there is no filter system; there are abs"),
        ("{{ n | append: x | exec }}", "there is no filter exec"),
        ("{{ n | plural: one: 'x' }}", "plural takes a form for other"),
        ("{{ n | plural: few: 'x', other: 'y' }}", "for any of one, other"),
        ("{{ n | plural: 'x', 'y' }}", "plural takes a form for other"),
        ("{{ n", "expected '}}'"),
        ("line\n  {% if %}x{% endif %}", "(line 2, column 6)"),
        ("{% if a %}", "expected tag endif"),
        ("{{ " + "a[" * 1_500 + "a" + "]" * 1_500 + " }}", "nests too deep"),
        ("{% if " + "a and " * 600 + "a %}x{% endif %}", "nests too deep"),
        ("{% if a %}" * 31 + "{% endif %}" * 31, "nesting limit"),
    ],
)
def test_refuses_a_template_that_is_wrong_whatever_the_data(source: str, because: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(source, "en", html=False)
    assert because in str(caught.value)


@pytest.mark.parametrize(
    ("source", "because"),
    [
        ("{{ nobody }}", "'nobody' is undefined"),
        ("{{ nobody | upcase }}", "'nobody' is undefined"),
        ("{{ word | append: nobody }}", "'nobody' is undefined"),
        ("{{ object[attribute] }}", "is undefined"),
        ("{{ now }}", "'now' is undefined"),
        ("{{ n.real }}", "is undefined"),
        ("{{ word.upper }}", "is undefined"),
        ("{{ word | plural: other: 'x' }}", "'w' is not a number"),
        ("{{ yes | plural: other: 'x' }}", "True is not a number"),
        ("{{ big | number }}", "is not a number below 10^18"),
        ("{{ n | divided_by: 0 }}", "nothing can be divided by 0"),
        ("{{ n | modulo: 0 }}", "nothing can be divided by 0"),
        ("{{ n | round: -1 }}", "not a whole number"),
        ("{{ word | date }}", "is not a time such as"),
        ("{{ n | date }}", "is not a date such as"),
        ("{{ '2026-03-01T12:00:00' | time }}", "is not a time such as"),
        ("{{ '9999-12-31T23:59:59-23:00' | datetime }}", "is not a time such as"),
        ("{{ at | date: 'huge' }}", "is not short, medium, long or full"),
        ("{{ at | time: zone: '../../etc/passwd' }}", "is not a time zone"),
        ("{{ at | time: zone: 'Europe/Nowhere' }}", "is not a time zone"),
        ("{{ n | currency: 'money' }}", "takes the code of a currency"),
        ("{{ word | join }}", "is not a list"),
        ("{{ n | size }}", "is not a text, a list or an object"),
        ("{{ object | append: 'x' }}", "is not a text"),
        ("{{ n | append }}", "append does not take these arguments"),
        ("{{ object }}", "is a list or an object"),
        ("{% if n < word %}x{% endif %}", "not supported"),
        ("{{ long }}", "longer than 4000 characters"),
        ("{% for each in list %}{{ each }}{% endfor %}", "longer than 4000 characters"),
        ("{% break %}", "unexpected 'break'"),
    ],
)
def test_says_what_does_not_fit_the_data(source: str, because: str) -> None:
    data = {"n": 1, "word": "w", "yes": True, "at": AT, "object": {"a": 1}, "attribute": "__class__", "big": 1e300}
    with pytest.raises(TemplateError) as caught:
        filled(source, list=LONG, long="x" * 9_000, **data)
    assert because in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in l %}{% for b in l %}{{ empty }}{% endfor %}{% endfor %}",
        "{% for a in l %}{% endfor %}" * 100,
        "{% for a in l %}" + "{{ empty }}" * 300 + "{% endfor %}",
        "{% assign x = 'aaaaaaaaaa' %}{% for a in l %}{% assign x = x | append: x %}{% endfor %}",
        "{% assign n = 10 %}{% for a in l %}{% assign n = n | times: n %}{% endfor %}",
        "{{ text" + " | append: text" * 200 + " }}",
        "{{ text" + " | upcase" * 400 + " }}",
    ],
)
def test_no_data_makes_a_template_run_for_long_or_grow_large(source: str) -> None:
    template = Template(source, "en", html=False)
    began = time.thread_time()
    with pytest.raises(TemplateError, match=r"too much work|too large|longer than"):
        template.fill_in(Filling({"l": LONG, "text": "x" * 16_000, "empty": ""}), 4_000)
    assert time.thread_time() - began < 1.0


def test_all_that_is_filled_in_for_one_notification_shares_one_allowance() -> None:
    template = Template("{% for a in l %}{{ empty }}{% endfor %}", "en", html=False)
    filling = Filling({"l": LONG, "empty": ""})
    for _ in range(2):
        assert template.fill_in(filling, 200) == ""
    with pytest.raises(TemplateError, match="too much work"):
        template.fill_in(filling, 200)


@pytest.mark.parametrize("locale", ["en", "uk", "de", "es", "pl", "hi", "ar-EG", "fr-CH", "pt-PT", "sv"])
def test_numbers_are_written_as_the_library_writes_them(locale: str) -> None:
    parsed = Locale.parse(locale, sep="-")
    template = Template("{{ n | number }}", locale, html=False)
    for number in (0, 5, 999, 1_000, 9_999, 10_000, 123_456, 1_234_567, 10**17, -4, -4_321, 0.5, 1_234.5):
        assert template.fill_in(Filling({"n": number}), 200) == format_decimal(number, locale=parsed)

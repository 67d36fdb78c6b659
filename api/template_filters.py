"""The filters of templates: all that a template can do to a value, in the manner of one locale.

A filter takes and gives JSON values only, and its result is bounded. What it cannot work with it refuses, with a
sentence for whoever wrote the template.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel.dates import format_date, format_datetime, format_time
from babel.numbers import format_currency, format_percent, get_group_symbol
from liquid.exceptions import FilterArgumentError
from liquid.undefined import Undefined
from markupsafe import Markup, escape

from api.plurals import plural_category

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from babel import Locale

Width = Literal["short", "medium", "long", "full"]
Number = int | float

CHARACTERS_PER_STEP = 32  # of a result, that a filter works through in the time of one of a template
_LONGEST_RESULT = 16 * 1024
_LARGEST_RESULT = 2**63  # as far as JSON goes here
_LARGEST = 10**18
_WIDTHS = ("short", "medium", "long", "full")
_CODE = 3  # letters of a currency
_CATEGORIES = frozenset(("zero", "one", "two", "few", "many", "other"))


def filters(locale: Locale) -> dict[str, Callable[..., object]]:
    """Return all filters by name."""
    return {**_TEXT, **_NUMBERS, **_LISTS, "default": _default, **_Localised(locale).by_name()}


def is_bounded(result: object) -> bool:
    """Say whether a filter's result is neither too long nor too large to go on with."""
    if isinstance(result, str):
        return len(result) <= _LONGEST_RESULT
    return not isinstance(result, int) or abs(result) <= _LARGEST_RESULT


def plural_categories(locale: Locale) -> frozenset[str]:
    """Return which forms `plural` may choose in a locale."""
    return frozenset(locale.plural_form.tags) | {"other"}


class _Localised:
    """Filters whose result depends on the locale."""

    def __init__(self, locale: Locale) -> None:
        self._locale = locale
        self._category = plural_category(locale)
        self._decimal = locale.decimal_formats[None]
        self._group = get_group_symbol(locale)
        samples = (0, 7, 999, 1_000, 54_321, 7_654_321, 10**12)
        self._groups_by_three = all(self._grouped(each) == self._written(each) for each in samples)

    def by_name(self) -> dict[str, Callable[..., object]]:
        return {
            "plural": self.plural,
            "number": self.number,
            "percent": self.percent,
            "currency": self.currency,
            "date": self.date,
            "time": self.time,
            "datetime": self.datetime,
        }

    def plural(self, value: object, **forms: object) -> str:
        """Choose a form by the number; a # in it becomes the number."""
        number = _number(value)
        if "other" not in forms or not _CATEGORIES.issuperset(forms):
            raise _refused("plural takes forms by category, other among them: one: '# parcel', other: '# parcels'")
        form = _text(forms.get(self._category(abs(number)), forms["other"]))
        return form.replace("#", self.number(number))

    def number(self, value: object) -> str:
        number = _number(value)
        if self._groups_by_three and type(number) is int and number >= 0:
            return self._grouped(number)  # most numbers are, and Babel takes ten times as long to find that out
        return self._written(number)

    def _grouped(self, number: int) -> str:
        return f"{number:,}".replace(",", self._group)

    def _written(self, number: Number) -> str:
        written: str = self._decimal.apply(number, self._locale)
        return written

    def percent(self, value: object) -> str:
        return format_percent(_number(value), locale=self._locale)

    def currency(self, value: object, code: object) -> str:
        if not isinstance(code, str) or len(code) != _CODE or not (code.isascii() and code.isalpha()):
            raise _refused("currency takes the code of a currency, such as 'UAH'")
        return format_currency(_number(value), code.upper(), locale=self._locale)

    def date(self, value: object, width: object = "medium", zone: object = "UTC") -> str:
        moment = _moment(value)
        local = moment.astimezone(_zone(zone)) if isinstance(moment, datetime) else moment
        return format_date(local, _width(width), locale=self._locale)

    def time(self, value: object, width: object = "short", zone: object = "UTC") -> str:
        return format_time(_instant(value), _width(width), tzinfo=_zone(zone), locale=self._locale)

    def datetime(self, value: object, width: object = "medium", zone: object = "UTC") -> str:
        return format_datetime(_instant(value), _width(width), tzinfo=_zone(zone), locale=self._locale)


def _refused(message: str) -> FilterArgumentError:
    return FilterArgumentError(message, token=None)


def _number(value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise _is_not(value, "a number below 10^18")
    return value


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _is_not(value, "a text")
    return value if isinstance(value, str) else str(value)


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise _is_not(value, "a list")
    return value


def _count(value: object) -> int:
    number = _number(value)
    if not isinstance(number, int) or number < 0:
        raise _is_not(value, "a whole number from 0 on")
    return number


def _is_not(value: object, what: str) -> FilterArgumentError:
    return _refused(f"{repr(value)[:50]} is not {what}")


def _moment(value: object) -> datetime | date:
    if isinstance(value, str):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            return _instant(value)
        return day
    raise _is_not(value, "a date such as 2026-03-01, or a time such as 2026-03-01T12:00:00Z")


def _instant(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _no_time(value) from error
    raise _no_time(value)


def _no_time(value: object) -> FilterArgumentError:
    return _is_not(value, "a time such as 2026-03-01T12:00:00Z")


def _width(value: object) -> Width:
    if value not in _WIDTHS:
        raise _is_not(value, "short, medium, long or full")
    return cast("Width", str(value))


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _is_not(value, "a time zone such as Europe/Kyiv") from error


# --- the same in every locale ----------------------------------------------------------------------------------------


def _default(value: object, instead: object) -> object:
    return instead if isinstance(value, Undefined) or value in (None, "", [], {}) or value is False else value


def _truncate(value: object, length: object = 50, end: object = "…") -> str:
    text, most, tail = _text(value), _count(length), _text(end)
    return text if len(text) <= most else text[: max(0, most - len(tail))] + tail


def _truncate_words(value: object, words: object = 15, end: object = "…") -> str:
    text, most = _text(value), _count(words)
    given = text.split()
    return text if len(given) <= most else " ".join(given[:most]) + _text(end)


def _divided_by(value: object, by: object) -> Number:
    number, divisor = _number(value), _number(by)
    if not divisor:
        raise _refused("nothing can be divided by 0")
    return number // divisor if isinstance(number, int) and isinstance(divisor, int) else number / divisor


def _modulo(value: object, by: object) -> Number:
    if not _number(by):
        raise _refused("nothing can be divided by 0")
    return _number(value) % _number(by)


def _round(value: object, digits: object = 0) -> Number:
    number, places = _number(value), min(_count(digits), 18)
    return round(number, places) if places else round(number)


def _join(value: object, between: object = " ") -> str:
    return _text(between).join([_text(each) for each in _list(value)])


def _size(value: object) -> int:
    if not isinstance(value, str | list | dict):
        raise _is_not(value, "a text, a list or an object")
    return len(value)


def _first(value: object) -> Any:  # noqa: ANN401  # JSON is anything
    return next(iter(_list(value)), None)


def _last(value: object) -> Any:  # noqa: ANN401  # JSON is anything
    return next(reversed(_list(value)), None)


_TEXT: dict[str, Callable[..., object]] = {
    "append": lambda value, more: _text(value) + _text(more),
    "prepend": lambda value, more: _text(more) + _text(value),
    "capitalize": lambda value: _text(value)[:1].upper() + _text(value)[1:],
    "upcase": lambda value: _text(value).upper(),
    "downcase": lambda value: _text(value).lower(),
    "strip": lambda value: _text(value).strip(),
    "truncate": _truncate,
    "truncatewords": _truncate_words,
    "escape": lambda value: value if isinstance(value, Markup) else escape(_text(value)),
}
_NUMBERS: dict[str, Callable[..., object]] = {
    "abs": lambda value: abs(_number(value)),
    "ceil": lambda value: math.ceil(_number(value)),
    "floor": lambda value: math.floor(_number(value)),
    "round": _round,
    "plus": lambda value, other: _number(value) + _number(other),
    "minus": lambda value, other: _number(value) - _number(other),
    "times": lambda value, other: _number(value) * _number(other),
    "divided_by": _divided_by,
    "modulo": _modulo,
    "at_least": lambda value, least: max(_number(value), _number(least)),
    "at_most": lambda value, most: min(_number(value), _number(most)),
}
_LISTS: dict[str, Callable[..., object]] = {"first": _first, "last": _last, "join": _join, "size": _size}

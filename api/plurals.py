"""Which plural form a number takes in a locale, found out once for all numbers that CLDR's rules cannot tell apart."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from babel import Locale

_MOST_REMEMBERED = 10_000
_REMAINDER = re.compile(r"mod (\d+)")
_NUMBER = re.compile(r"\d+")


def plural_category(locale: Locale) -> Callable[[float], str]:
    """Return a function that names the category of a number from 0 on: `one`, `few`, `many` or `other`.

    CLDR's rules look at the remainders of a whole number, and compare it with a few others. So one that is past all of
    these has the category of any other with the same remainders, of which there are mostly a hundred.
    """
    rule = locale.plural_form
    rules = " ".join(rule.rules.values())
    period = math.lcm(*map(int, _REMAINDER.findall(rules)))
    beyond = 1 + max(map(int, _NUMBER.findall(_REMAINDER.sub("", rules))), default=0)
    of = lru_cache(_MOST_REMEMBERED, typed=True)(rule)

    def category(number: float) -> str:
        if isinstance(number, int) and number > beyond:
            number = beyond + (number - beyond) % period
        return of(number)

    return category

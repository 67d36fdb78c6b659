"""Plural forms: the same as CLDR's rules, asked number by number."""

from __future__ import annotations

import random

import pytest
from babel import Locale, localedata

from api.plurals import plural_category

SEED = 5
LOCALES = {str(Locale.parse(each).plural_form.rules): each for each in localedata.locale_identifiers()}.values()


@pytest.mark.parametrize("locale", sorted(LOCALES))
def test_each_number_has_the_form_that_its_locale_gives_it(locale: str) -> None:
    chosen = random.Random(SEED)  # noqa: S311  # the same each time
    numbers: list[float] = [*range(2_500), *(chosen.randrange(10 ** chosen.randrange(4, 18)) for _ in range(2_000))]
    numbers += [each * 10**power for each in range(1, 25) for power in range(3, 12)]
    numbers += [0.0, 1.0, 1.5, 2.0, 3.14, 101.0, 1_000_000.0]
    chosen.shuffle(numbers)
    asked, rule = plural_category(Locale.parse(locale)), Locale.parse(locale).plural_form
    assert [asked(each) for each in numbers] == [rule(each) for each in numbers]

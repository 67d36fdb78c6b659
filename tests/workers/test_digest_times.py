"""When a digest closes: by its period or its cron line, whatever clocks do. Pure."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from models.digest_times import closes_at, require_every

NOON = datetime(2026, 3, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("every", "closes"),
    [
        ("1m", NOON + timedelta(minutes=1)),
        ("90m", NOON + timedelta(minutes=90)),
        ("1h", NOON + timedelta(hours=1)),
        ("31d", NOON + timedelta(days=31)),
        ("* * * * *", NOON + timedelta(minutes=1)),
        ("0 12 * * *", NOON + timedelta(days=1)),
        ("30 1 * * *", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),  # summer time begins in Europe: not here
        ("0 8 * * mon-fri", datetime(2026, 3, 30, 8, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_when_it_closes_is_a_pure_decision(every: str, closes: datetime) -> None:
    assert closes_at(every, NOON) == closes
    assert closes_at(every, NOON.astimezone()) == closes


def test_a_cron_line_comes_every_hour_of_a_day_on_which_clocks_change() -> None:
    moments = [datetime(2026, 10, 24, 23, 30, tzinfo=UTC)]
    while len(moments) < 6:
        moments.append(closes_at("30 * * * *", moments[-1]))
    assert {later - earlier for earlier, later in itertools.pairwise(moments)} == {timedelta(hours=1)}


@pytest.mark.parametrize("every", ["", "h", "0h", "1s", "1w", "-1h", "1.5h", "745h", "32d", "999999m", "@daily", "* *"])
def test_what_is_no_time_is_refused(every: str) -> None:
    with pytest.raises(ValueError, match=r"^(must be|is)"):
        require_every(every)

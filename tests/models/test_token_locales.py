"""What language users come with: the last is remembered, what is remembered is not written, a failure loses none."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import orjson
import pytest

from models.contracts import PreferencesIn
from models.database import Database
from models.erasure import erase
from models.errors import UnavailableError
from models.preferences import NOTHING, Preferences
from models.revocations import Revocations
from models.token_locales import TokenLocales
from models.tokens import TenantKeys, UserToken, verify_token
from tests.conftest import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from models.database import Connection
    from models.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def came(locale: str | None, user: str = "u_1", tenant: str = "default", at: datetime | None = NOW) -> UserToken:
    return UserToken(user, tenant, NOW + timedelta(hours=1), at, locale=locale)


def remembered(connection: Connection) -> dict[str, str]:
    rows = connection.execute("SELECT tenant || '/' || user_id AS whose, token_locale FROM preference").fetchall()
    return {row["whose"]: row["token_locale"] for row in rows}


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.database_url, size=2)
    await database.open()
    yield database
    await database.close()


class Flaky:
    """A database that is away at times, and counts what it is asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False
        self.asked: list[int] = []

    async def rows(self, statement: str, parameters: dict[str, Any]) -> Any:
        if self.away:
            raise UnavailableError
        self.asked.append(len(orjson.loads(parameters["came"])))
        return await self._database.rows(statement, parameters)


@pytest.fixture
async def flaky(settings: Settings, connection: Connection) -> AsyncIterator[Flaky]:
    connection.execute("INSERT INTO tenant (id) VALUES ('other')")
    async with opened(settings) as database:
        yield Flaky(database)


async def test_the_last_one_counts_for_each_user_of_each_tenant(flaky: Flaky, connection: Connection) -> None:
    locales = TokenLocales(flaky)  # type: ignore[arg-type]
    for token in (came("uk"), came("de"), came("pt-BR", "u_2"), came("en", tenant="other"), came(None, "u_3")):
        locales.note(token)
    await locales.write()
    assert remembered(connection) == {"default/u_1": "de", "default/u_2": "pt-BR", "other/u_1": "en"}
    locales.note(came(None))
    await locales.write()
    assert remembered(connection)["default/u_1"] == "de"
    assert flaky.asked == [3]


async def test_what_is_remembered_is_not_written_again(flaky: Flaky, connection: Connection) -> None:
    locales = TokenLocales(flaky)  # type: ignore[arg-type]
    written = []
    for locale in ("uk", "uk", "de"):
        locales.note(came(locale))
        await locales.write()
        rows = connection.execute("SELECT xmin::text, xmax::text, ctid::text FROM preference").fetchall()
        written.append(rows)
    assert written[0] == written[1]  # nor locked
    assert written[1] != written[2]


async def test_preferences_stay_as_they_are_and_go_on_to_be_read(flaky: Flaky, connection: Connection) -> None:
    body = PreferencesIn.model_validate({"mutes": {"domains": ["blog"]}}).model_dump()
    connection.execute(
        "INSERT INTO preference (tenant, user_id, body) VALUES ('default', 'u_1', %s)", [orjson.dumps(body).decode()]
    )
    (before,) = connection.execute("SELECT body, updated_at FROM preference").fetchall()
    locales = TokenLocales(flaky)  # type: ignore[arg-type]
    locales.note(came("uk"))
    await locales.write()
    assert connection.execute("SELECT body, updated_at FROM preference").fetchall() == [before]
    assert remembered(connection) == {"default/u_1": "uk"}


def test_who_has_said_nothing_has_the_preferences_of_somebody_without_any() -> None:
    assert orjson.loads(NOTHING) == PreferencesIn().model_dump()
    assert Preferences.read(NOTHING) == Preferences()
    assert Preferences.read(NOTHING, "uk") == Preferences(locale="uk")
    theirs = PreferencesIn.model_validate({"locale": "de"}).model_dump()
    assert Preferences.of(theirs, "uk").locale == "de"


async def test_who_calls_again_and_again_is_asked_about_once_in_a_while(flaky: Flaky, connection: Connection) -> None:
    locales = TokenLocales(flaky, again_after_s=60)  # type: ignore[arg-type]
    for _ in range(3):
        for token in (came("uk"), came("uk", "u_2")):
            locales.note(token)
            await locales.write()
    assert flaky.asked == [1, 1]
    locales.note(came("de", at=NOW + timedelta(seconds=1)))  # another token counts at once
    await locales.write()
    assert remembered(connection) == {"default/u_1": "de", "default/u_2": "uk"}
    impatient = TokenLocales(flaky, again_after_s=0.001)  # type: ignore[arg-type]
    for _ in range(2):
        impatient.note(came("uk"))
        await impatient.write()
        await asyncio.sleep(0.002)
    assert flaky.asked == [1] * 5


async def test_how_many_calls_are_known_to_have_been_is_bounded(flaky: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.token_locales._MOST_RECENT", 3)
    locales = TokenLocales(flaky, again_after_s=60)  # type: ignore[arg-type]
    for user in ("u_1", "u_2", "u_3", "u_1", "u_4", "u_1", "u_2"):  # u_2 is forgotten for u_4
        locales.note(came("uk", user))
        await locales.write()
    assert flaky.asked == [1] * 5
    assert len(locales._recent) == 3


async def test_nothing_is_lost_while_postgres_is_away(flaky: Flaky, connection: Connection) -> None:
    locales = TokenLocales(flaky)  # type: ignore[arg-type]
    flaky.away = True
    locales.note(came("uk"))
    locales.note(came("uk", "u_2"))
    with pytest.raises(UnavailableError):
        await locales.write()
    locales.note(came("de"))
    flaky.away = False
    await locales.write()
    assert remembered(connection) == {"default/u_1": "de", "default/u_2": "uk"}


async def test_what_comes_while_it_is_written_is_written_next(settings: Settings, connection: Connection) -> None:
    async with opened(settings) as database:

        class Slow:
            async def rows(self, *asked: Any) -> Any:
                locales.note(late.pop()) if late else None
                return await database.rows(*asked)

        late = [came("de")]
        locales = TokenLocales(Slow())  # type: ignore[arg-type]
        locales.note(came("uk"))
        await locales.write()
        assert remembered(connection) == {"default/u_1": "de"}
        assert locales._waiting == {}


async def test_many_who_come_at_once_are_few_statements(flaky: Flaky, connection: Connection) -> None:
    locales = TokenLocales(flaky)  # type: ignore[arg-type]
    for nth in range(2_500):
        locales.note(came("uk", f"u_{nth}"))
    await locales.write()
    assert flaky.asked == [1_000, 1_000, 500]
    assert len(remembered(connection)) == 2_500


async def test_processes_that_write_the_same_users_at_once_do_not_wait_for_each_other_for_ever(
    flaky: Flaky, connection: Connection
) -> None:
    users = [f"u_{nth}" for nth in range(300)]

    async def write(locale: str, order: list[str]) -> None:
        locales = TokenLocales(flaky)  # type: ignore[arg-type]
        for _ in range(5):
            for user in order:
                locales.note(came(locale, user))
            await locales.write()

    await asyncio.gather(write("uk", users), write("de", users[::-1]))
    assert set(remembered(connection).values()) <= {"uk", "de"}
    assert len(remembered(connection)) == 300


async def test_a_token_from_before_its_user_was_erased_leaves_no_trace(flaky: Flaky, connection: Connection) -> None:
    connection.execute("INSERT INTO revocation (tenant, user_id, revoked_at) VALUES ('default', 'u_1', %s)", [NOW])
    locales = TokenLocales(flaky)  # type: ignore[arg-type]
    for issued_at in (NOW - timedelta(microseconds=1), None):
        locales.note(came("uk", at=issued_at))
        locales.note(came("uk", tenant="other", at=issued_at))
        await locales.write()
        assert remembered(connection) == {"other/u_1": "uk"}
    locales.note(came("uk"))  # back, with a new one
    await locales.write()
    assert remembered(connection) == {"default/u_1": "uk", "other/u_1": "uk"}


async def test_one_that_comes_with_a_new_token_while_a_user_is_erased_leaves_no_trace(
    settings: Settings, connection: Connection
) -> None:
    said = PreferencesIn.model_validate({"mutes": {"domains": ["blog"]}}).model_dump()

    class Coming(Revocations):
        """Somebody comes before the end, with a token from after the beginning."""

        times = 0

        async def revoke(self, tenant: str, user: str, *, erased: bool = False) -> datetime:
            self.times += 1
            if self.times == 2:
                connection.execute(
                    "INSERT INTO preference (tenant, user_id, body, token_locale) VALUES (%s, %s, %s, 'uk')",
                    [tenant, user, NOTHING if user == "u_1" else orjson.dumps(said).decode()],
                )
            return await super().revoke(tenant, user, erased=erased)

    async with opened(settings) as database:
        for user in ("u_1", "u_2"):
            await erase(database, Coming(database), "default", user)
    assert remembered(connection) == {"default/u_2": "uk"}, "what somebody has set by then is the next holder's"


async def test_a_tenant_that_is_gone_is_left_no_trace_of(flaky: Flaky, connection: Connection) -> None:
    locales = TokenLocales(flaky)  # type: ignore[arg-type]
    locales.note(came("uk"))
    locales.note(came("uk", tenant="other"))
    connection.execute("DELETE FROM tenant WHERE id = 'other'")
    await locales.write()
    assert remembered(connection) == {"default/u_1": "uk"}


# --- the claim -------------------------------------------------------------------------------------------------------


class OneSecret:
    async def of(self, tenant: str) -> TenantKeys | None:
        return TenantKeys((SECRET,))


@pytest.mark.parametrize(
    ("claimed", "locale"),
    [
        ("uk", "uk"),
        ("uk_UA", "uk-UA"),
        ("PT-br", "pt-BR"),
        ("en-US-u-nu-latn", "en-US-U-NU-Latn"),
        ("tlh", "tlh"),
        (None, None),
        ("", None),
        ("u", None),
        ("uk\n", None),
        ("uk UA", None),
        ("uk;q=0.8", None),
        ("українська", None),
        ("a-" * 20 + "b", None),
        ("\x00", None),
        (["uk"], None),
        (1, None),
        ({"uk": "UA"}, None),
    ],
)
async def test_what_cannot_be_a_language_is_passed_over_and_keeps_nobody_out(claimed: Any, locale: str | None) -> None:
    claims = {"sub": "u_1", "tenant": "default", "exp": datetime.now(UTC) + timedelta(hours=1), "locale": claimed}
    token = await verify_token(jwt.encode(claims, SECRET), OneSecret(), None)  # type: ignore[arg-type]
    assert (token.user, token.locale) == ("u_1", locale)

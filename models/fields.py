"""The values that wire messages are made of: limits, patterns, and checks that say what is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import orjson
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from models.cursors import Cursor
from models.digest_times import require_every

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DATA_BYTES = 16 * 1024
MAX_DATA_DEPTH = 32
MAX_USERS = 1_000
MAX_BULK_ITEMS = 1_000
MAX_BULK_BYTES = 8 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024
MAX_LINE_BYTES = 64 * 1024
MAX_SOCKET_MESSAGE_BYTES = 64 * 1024
MAX_PAGE = 100
MAX_LOG_PAGE = 500
MAX_SEQS = 1_000
MAX_DELAY = timedelta(days=366)  # of what is scheduled
MAX_SEQ = 2**53 - 1  # what a JavaScript client can hold
MAX_TOKEN_TTL_S = 30 * 24 * 3600
MAX_GRANTS = 100
MAX_WATCHED = 100
MAX_MUTES = 200
MAX_TITLE = 200
MAX_BODY = 4_000
MAX_TYPES = 1_000  # of a tenant
MAX_LOCALES = 32
MAX_TITLE_TEMPLATE = 500
MAX_BODY_TEMPLATE = 4_000
MAX_SCHEMA_BYTES = 32 * 1024
MAX_SCHEMA_DEPTH = 64
MAX_DIGEST_KEY = 128
MAX_DIGEST_TEMPLATE = 500
MAX_TTL_S = 10 * 366 * 24 * 3600

TENANT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
API_KEY_PREFIX = "bh_"

_NAME = r"^[A-Za-z0-9._:@+-]{1,128}$"
_TYPE = r"^[a-z0-9_-]+(\.[a-z0-9_-]+){1,4}$"
_DOMAIN = r"^[a-z0-9_-]{1,64}$"
_GRANT = r"^([A-Za-z0-9._:@+-]{1,128}|[A-Za-z0-9._:@+-]{0,127}\*)$"
_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_LOCALE = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}$"
LANGUAGE_TAG_PATTERN = r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$"
MAX_LANGUAGE_TAG = 35
_TYPE_GRANT = r"^([a-z0-9_-]+(\.[a-z0-9_-]+){1,4}|[a-z0-9_.-]{0,127}\*)$"
NAME_RULE = "1 to 128 of the characters A-Z a-z 0-9 . _ : @ + -"
_RULES = {
    _NAME: NAME_RULE,
    _TYPE: "2 to 5 parts of a-z 0-9 _ - with dots between them, like shop.order.shipped",
    _DOMAIN: "1 to 64 of the characters a-z 0-9 _ -",
    _CLOCK: "the form HH:MM, from 00:00 to 23:59",
    _LOCALE: "the form of a language tag, such as uk or pt-BR",
    LANGUAGE_TAG_PATTERN: "the form of a language tag, such as uk or pt-BR",
    _GRANT: f"{NAME_RULE}, or fewer and a * at the end",
    _TYPE_GRANT: "the form of a type, like shop.order.shipped, or of its beginning and a *, like shop.*",
    TENANT_PATTERN: "1 to 63 of the characters a-z 0-9 _ -, the first of them a letter or a digit",
}


_SAID = {  # in place of Pydantic's words, where those are of Python or leave open what to do
    "missing": "must be given",
    "extra_forbidden": "is not known here; correct its name, or leave it out",
    "model_type": "must be a JSON object",
    "timezone_aware": "must say its offset from UTC, as 2026-03-01T12:00:00Z does",
    "datetime_parsing": "must be an RFC 3339 time such as 2026-03-01T12:00:00Z",
    "datetime_from_date_parsing": "must be an RFC 3339 time such as 2026-03-01T12:00:00Z",
}


def explained(error: Mapping[str, Any]) -> str:
    """Return what one of Pydantic's errors says, in the words of somebody who sends JSON."""
    rule = _RULES.get(error.get("ctx", {}).get("pattern", ""))
    text = f"must have {rule}" if rule else _SAID.get(error["type"], str(error["msg"]))
    text = text.replace(" after validation", "").replace("should be True", "should be true")
    return text[:1].upper() + text[1:]


def _refuse_nul(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("nul_character", "must not contain the character U+0000")
    return value


def _walk(value: object) -> tuple[int, bool]:
    """Return how deep containers nest in `value`, and whether any string or key holds U+0000."""
    depth, nul, level = 0, False, [value]
    while level:
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
                nul = nul or any("\x00" in key for key in node)
            elif isinstance(node, list):
                below.extend(node)
            elif isinstance(node, str):
                nul = nul or "\x00" in node
        if any(isinstance(node, dict | list) for node in level):
            depth += 1
        level = below
    return depth, nul


def _check_data(value: dict[str, Any]) -> dict[str, Any]:
    depth, nul = _walk(value)
    if depth > MAX_DATA_DEPTH:
        raise PydanticCustomError("too_deep", "must not nest deeper than {limit} levels", {"limit": MAX_DATA_DEPTH})
    if nul:
        raise PydanticCustomError("nul_character", "must not contain the character U+0000")
    if len(orjson.dumps(value)) > MAX_DATA_BYTES:
        raise PydanticCustomError("too_large", "must not exceed {limit} bytes as JSON", {"limit": MAX_DATA_BYTES})
    return value


def _check_schema(value: dict[str, Any]) -> dict[str, Any]:
    depth, nul = _walk(value)
    if depth > MAX_SCHEMA_DEPTH:
        raise PydanticCustomError("too_deep", "must not nest deeper than {limit} levels", {"limit": MAX_SCHEMA_DEPTH})
    if nul:
        raise PydanticCustomError("nul_character", "must not contain the character U+0000")
    if len(orjson.dumps(value)) > MAX_SCHEMA_BYTES:
        raise PydanticCustomError("too_large", "must not exceed {limit} bytes as JSON", {"limit": MAX_SCHEMA_BYTES})
    return value


def _check_every(value: str) -> str:
    try:
        return require_every(value)
    except ValueError as error:
        raise PydanticCustomError("bad_every", "{what}", {"what": str(error)}) from None


_URL = re.compile(r"^(https?://[^\s/?#\\]+[^\s\\]*|/([^\s/\\][^\s\\]*)?)$")


def _check_url(value: str) -> str:
    if not _URL.match(value) or not value.isprintable():
        raise PydanticCustomError("bad_url", "must be an http or https URL, or a path that starts with one /")
    return value


def _check_jwks_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or not value.isprintable():
        raise PydanticCustomError("bad_jwks_url", "must be an https URL, such as https://id.example.com/jwks.json")
    return value


def _only_text(value: object) -> object:
    if value is not None and not isinstance(value, str | datetime):
        raise PydanticCustomError("bad_time", "must be an RFC 3339 time such as 2026-03-01T12:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("bad_time", "must lie in the years 1 to 9999 in UTC") from None


def _without_repeats(users: list[str]) -> list[str]:
    return list(dict.fromkeys(users))


@cache
def _time_zones() -> frozenset[str]:
    # It looks through a folder, in which some systems keep a file for their own clock.
    return frozenset(available_timezones() - {"localtime"})


def _check_time_zone(value: str) -> str:
    if value not in _time_zones():
        raise PydanticCustomError("unknown_time_zone", "must be a time zone of the IANA database, such as Europe/Kyiv")
    return value


def _check_cursor(value: str) -> str:
    try:
        Cursor.read(value)
    except ValueError:
        raise PydanticCustomError("bad_cursor", "must be the `next` of an earlier answer, as it was given") from None
    return value


ClockTime = Annotated[str, StringConstraints(pattern=_CLOCK)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
Locale = Annotated[str, StringConstraints(pattern=_LOCALE)]
LanguageTag = Annotated[str, StringConstraints(pattern=LANGUAGE_TAG_PATTERN, max_length=MAX_LANGUAGE_TAG)]
Name = Annotated[str, StringConstraints(pattern=_NAME)]
TypeName = Annotated[str, StringConstraints(pattern=_TYPE, max_length=128)]
Domain = Annotated[str, StringConstraints(pattern=_DOMAIN)]
Text = Annotated[str, AfterValidator(_refuse_nul)]
Grant = Annotated[str, StringConstraints(pattern=_GRANT)]
TypeGrant = Annotated[str, StringConstraints(pattern=_TYPE_GRANT, max_length=128)]
Grants = Annotated[list[Grant], Field(max_length=MAX_GRANTS)]
Url = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_check_url)]
JwksUrl = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_check_jwks_url)]
TenantName = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
Data = Annotated[dict[str, Any], AfterValidator(_check_data)]
Schema = Annotated[dict[str, Any], AfterValidator(_check_schema)]
Every = Annotated[str, StringConstraints(max_length=100), AfterValidator(_check_every)]
Time = Annotated[AwareDatetime, BeforeValidator(_only_text), AfterValidator(_in_utc)]
Seq = Annotated[int, Field(strict=True, ge=0, le=MAX_SEQ)]
EntrySeq = Annotated[int, Field(strict=True, ge=1, le=MAX_SEQ)]
Users = Annotated[list[Name], Field(min_length=1, max_length=MAX_USERS), AfterValidator(_without_repeats)]
Watched = Annotated[list[Name], Field(min_length=1, max_length=MAX_WATCHED), AfterValidator(_without_repeats)]
PageCursor = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_cursor)]
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x21-\x7e ]+$")]

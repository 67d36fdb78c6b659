"""User tokens: JSON Web Tokens that name a user and a tenant, signed with the tenant's secret (HS256)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt

from models.errors import FieldError, TokenExpiredError, TokenInvalidError, ValidationFailedError
from models.fields import TENANT_PATTERN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

ALGORITHM = "HS256"
CLOCK_LEEWAY_S = 5
MAX_TOKEN_BYTES = 8 * 1024
_USER = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
_TENANT = re.compile(TENANT_PATTERN)


@dataclass(frozen=True, slots=True)
class UserToken:
    """What a verified token says."""

    user: str
    tenant: str
    expires_at: datetime
    rooms: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    locale: str | None = None


def mint_token(
    secret: str,
    *,
    tenant: str,
    user: str,
    ttl_s: int,
    rooms: Sequence[str] = (),
    watch: Sequence[str] = (),
    locale: str | None = None,
) -> tuple[str, datetime]:
    """Return a signed token and when it ends. Raises `ValidationFailedError` where its grants make it too long."""
    now = datetime.now(UTC).replace(microsecond=0)
    expires_at = now + timedelta(seconds=ttl_s)
    claims: dict[str, Any] = {"sub": user, "tenant": tenant, "iat": now, "exp": expires_at}
    claims |= {"rooms": list(rooms)} if rooms else {}
    claims |= {"watch": list(watch)} if watch else {}
    claims |= {"locale": locale} if locale else {}
    token = jwt.encode(claims, secret, algorithm=ALGORITHM)
    if len(token) > MAX_TOKEN_BYTES:
        detail = f"The token would have {len(token)} bytes, and may have {MAX_TOKEN_BYTES}; grant by prefix, like a:*"
        raise ValidationFailedError(errors=(FieldError("/rooms", "too_many_grants", detail),))
    return token, expires_at


async def verify_token(token: str, secret_of: Callable[[str], Awaitable[str | None]]) -> UserToken:
    """Check a token against the secret of the tenant that it names.

    Raises `TokenExpiredError`, or `TokenInvalidError` for anything else that is wrong with it.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenInvalidError
    try:
        tenant = jwt.decode(token, options={"verify_signature": False}).get("tenant")
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise TokenInvalidError
        secret = await secret_of(tenant)
        if secret is None:
            raise TokenInvalidError
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            leeway=CLOCK_LEEWAY_S,
            options={"require": ["sub", "exp"], "verify_aud": False},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenExpiredError from error
    except (jwt.InvalidTokenError, ValueError) as error:
        raise TokenInvalidError from error
    user = claims["sub"]
    if not isinstance(user, str) or not _USER.fullmatch(user):
        raise TokenInvalidError
    return UserToken(
        user=user,
        tenant=tenant,
        expires_at=_time(claims["exp"]),
        rooms=_strings(claims.get("rooms")),
        watch=_strings(claims.get("watch")),
        locale=claims.get("locale") if isinstance(claims.get("locale"), str) else None,
    )


def _time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError, TypeError) as error:
        raise TokenInvalidError from error


def _strings(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise TokenInvalidError
    return tuple(value)

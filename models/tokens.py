"""User tokens: JSON Web Tokens that name a user and a tenant.

They are signed with the tenant's secret (HS256), the one before it while secrets are being changed, or with a key that
the tenant's identity provider publishes (RS256, ES256, EdDSA).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import jwt

from models import jwks
from models.errors import FieldError, TokenExpiredError, TokenInvalidError, ValidationFailedError
from models.fields import API_KEY_PREFIX, LANGUAGE_TAG_PATTERN, MAX_LANGUAGE_TAG, NAME_RULE, TENANT_PATTERN
from models.locales import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALGORITHM = "HS256"
CLOCK_LEEWAY_S = 5
MAX_TOKEN_BYTES = 8 * 1024
_USER = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
_TENANT = re.compile(TENANT_PATTERN)
_LOCALE = re.compile(LANGUAGE_TAG_PATTERN)


@dataclass(frozen=True, slots=True)
class UserToken:
    """What a verified token says. `locale` is as `models.locales.canonical` writes it."""

    user: str
    tenant: str
    expires_at: datetime
    issued_at: datetime | None = None
    rooms: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """How a tenant's tokens are signed: with the first of `secrets`; the others are still believed."""

    secrets: tuple[str, ...]
    jwks_url: str | None = None


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
    now = datetime.now(UTC)
    expires_at = now.replace(microsecond=0) + timedelta(seconds=ttl_s)
    # To the microsecond: a token that is made right after a revocation must not seem to be older.
    claims: dict[str, Any] = {"sub": user, "tenant": tenant, "iat": now.timestamp(), "exp": expires_at}
    claims |= {"rooms": list(rooms)} if rooms else {}
    claims |= {"watch": list(watch)} if watch else {}
    claims |= {"locale": locale} if locale else {}
    token = jwt.encode(claims, secret, algorithm=ALGORITHM)
    if len(token) > MAX_TOKEN_BYTES:
        detail = f"The token would have {len(token)} bytes, and may have {MAX_TOKEN_BYTES}; grant by prefix, like a:*"
        raise ValidationFailedError(errors=(FieldError("/rooms", "too_many_grants", detail),))
    return token, expires_at


class Keys(Protocol):
    """Where the keys of tenants come from."""

    async def of(self, tenant: str) -> TenantKeys | None:
        """Return how a tenant's tokens are signed; None where there is no such tenant. Raises `UnavailableError`."""


class PublicKeys(Protocol):
    """Where the keys that a provider publishes come from."""

    async def keys(self, url: str, algorithm: str, key_id: str | None) -> Sequence[jwt.PyJWK]:
        """Return those that may have signed a token. Raises `TokenInvalidError`, `UnavailableError`."""


async def verify_token(token: str, keys: Keys, public_keys: PublicKeys) -> UserToken:
    """Check a token against the keys of the tenant that it names.

    Raises `TokenExpiredError`, `UnavailableError`, or `TokenInvalidError` for anything else that is wrong with it.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenInvalidError
    if token.startswith(API_KEY_PREFIX):
        detail = "This is an API key, which no device may have; connect with a user token, from POST /v1/tokens"
        raise TokenInvalidError(detail)
    try:
        header = jwt.get_unverified_header(token)
        tenant = jwt.decode(token, options={"verify_signature": False}).get("tenant")
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise TokenInvalidError
        candidates = await _candidates(header, await keys.of(tenant), public_keys)
        claims = _first_that_fits(token, header["alg"], candidates)
    except jwt.ExpiredSignatureError as error:
        raise TokenExpiredError from error
    except (jwt.MissingRequiredClaimError, jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError) as error:
        detail = f"The token is signed as it should be, but: {error}"  # about a claim, which whoever signed it knows
        raise TokenInvalidError(detail) from error
    except (jwt.InvalidTokenError, ValueError, TypeError) as error:
        raise TokenInvalidError from error
    return _as_user_token(claims)


async def _candidates(
    header: Mapping[str, Any], keys: TenantKeys | None, public_keys: PublicKeys
) -> Sequence[str | jwt.PyJWK]:
    """Return what may have signed a token. Its algorithm decides which kind of key that is, never the other way."""
    algorithm, key_id = header.get("alg"), header.get("kid")
    if keys is None or not isinstance(key_id, str | None):
        raise TokenInvalidError
    if algorithm == ALGORITHM:
        return keys.secrets
    if algorithm in jwks.ALGORITHMS and keys.jwks_url:
        return await public_keys.keys(keys.jwks_url, algorithm, key_id)
    raise TokenInvalidError


def _first_that_fits(token: str, algorithm: str, candidates: Sequence[str | jwt.PyJWK]) -> dict[str, Any]:
    for candidate in candidates:
        try:
            return jwt.decode(
                token,
                candidate,
                algorithms=[algorithm],
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["sub", "exp"], "verify_aud": False},
            )
        except jwt.InvalidSignatureError:
            continue
    raise TokenInvalidError


def _as_user_token(claims: Mapping[str, Any]) -> UserToken:
    user = claims["sub"]
    if not isinstance(user, str) or not _USER.fullmatch(user):
        detail = f"The claim sub must name a user, who has {NAME_RULE}"
        raise TokenInvalidError(detail)
    return UserToken(
        user=user,
        tenant=claims["tenant"],
        expires_at=_time(claims["exp"]),
        issued_at=None if claims.get("iat") is None else _time(claims["iat"]),
        rooms=_strings("rooms", claims),
        watch=_strings("watch", claims),
        locale=_locale(claims.get("locale")),
    )


def _time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError, TypeError) as error:
        raise TokenInvalidError from error


def _locale(claimed: object) -> str | None:
    """Return what can be a language; providers put all kinds of things there, and nobody is kept out because of it."""
    if not isinstance(claimed, str) or len(claimed) > MAX_LANGUAGE_TAG or not _LOCALE.fullmatch(claimed):
        return None
    return canonical(claimed)


def _strings(claim: str, claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get(claim)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        detail = f"The claim {claim} must be a list of strings"
        raise TokenInvalidError(detail)
    return tuple(value)

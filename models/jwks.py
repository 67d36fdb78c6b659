"""Public keys that an identity provider publishes as a JSON Web Key Set (RFC 7517), fetched carefully and remembered.

The URL comes from an operator, and what it answers from somebody else: so it is fetched in bounded time and size,
without redirects, and never from an address inside the network unless that is allowed, whatever the name resolves to.
Keys are fetched again when they are old, or when a token names one that is not there; a provider that is away does not
lock users out, because keys that were known stay valid for a day.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import orjson
import structlog
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

from models.errors import TokenInvalidError, UnavailableError

if TYPE_CHECKING:
    import socket

    from aiohttp.abc import ResolveResult

log = structlog.get_logger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
_TIMEOUT_S = 3.0
_MOST_BYTES = 256 * 1024
_MOST_KEYS = 100
_FRESH_S = 600.0
_RETRY_S = 1.0  # after a provider did not answer
_AGAIN_S = 10.0  # between two fetches for tokens that name an unknown key: anybody can make those up
_STALE_S = 24 * 3600.0
_OK = 200
_SMALLEST_RSA_BITS = 2048


class JwksError(Exception):
    """A key set could not be fetched; the text says why."""


@dataclass(slots=True)
class _KeySet:
    keys: list[jwt.PyJWK] = field(default_factory=list)
    fetched_at: float = float("-inf")
    asked_at: float = float("-inf")
    fetches: int = 0
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_older_than(self, seconds: float) -> bool:
        return time.monotonic() - self.fetched_at > seconds

    def was_not_asked_for(self, seconds: float) -> bool:
        return time.monotonic() - self.asked_at > seconds


class Jwks:
    """The key sets of all URLs that were asked for. `allow_private`: also http, and addresses inside the network."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._sets: dict[str, _KeySet] = {}

    async def keys(self, url: str, algorithm: str, key_id: str | None) -> list[jwt.PyJWK]:
        """Return the keys that may have signed a token: the one it names, or all of its algorithm where it names none.

        Raises `TokenInvalidError` where there is no such key, `UnavailableError` where no keys could be had.
        """
        known = self._sets.setdefault(url, _KeySet())
        if known.is_older_than(_FRESH_S) and known.was_not_asked_for(_RETRY_S):
            await self._fetch_once(url, known)
        if known.is_older_than(_STALE_S):
            detail = "The keys that tokens are signed with cannot be fetched; try again"
            raise UnavailableError(detail)
        found = _fitting(known.keys, algorithm, key_id)
        if not found and known.was_not_asked_for(_AGAIN_S):  # the provider may have a new key
            await self._fetch_once(url, known)
            found = _fitting(known.keys, algorithm, key_id)
        if not found:
            raise TokenInvalidError
        return found

    async def _fetch_once(self, url: str, known: _KeySet) -> None:
        """Fetch; whoever comes meanwhile waits for the same answer."""
        before = known.fetches
        async with known.fetching:
            if known.fetches != before:
                return
            try:
                known.keys = await self._fetch(url)
                known.fetched_at = time.monotonic()
            except JwksError as error:
                log.warning("the key set cannot be fetched", url=url, error=str(error))
            finally:
                known.asked_at = time.monotonic()
                known.fetches += 1

    async def _fetch(self, url: str) -> list[jwt.PyJWK]:
        """Raise `JwksError`."""
        self._require_allowed(url)
        connector = aiohttp.TCPConnector(resolver=None if self._allow_private else PublicResolver())
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
            ):
                if response.status != _OK:
                    msg = f"it answered {response.status}; redirects are not followed"
                    raise JwksError(msg)
                body = await _read(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a TimeoutError is an OSError
            raise JwksError(str(error) or type(error).__name__) from error
        return _usable(body)

    def _require_allowed(self, url: str) -> None:
        parts = urlsplit(url)
        if self._allow_private:
            return
        if parts.scheme != "https":
            msg = "it is not an https URL; BELLHOP_JWKS_ALLOW_PRIVATE=true allows others"
            raise JwksError(msg)
        try:
            address = ipaddress.ip_address(parts.hostname or "")
        except ValueError:
            return  # a name, which the resolver looks at
        if not is_public(address):
            raise JwksError(_inside(str(address)))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MOST_BYTES:
            msg = f"it is larger than {_MOST_BYTES} bytes"
            raise JwksError(msg)
    return body


def _usable(body: bytes) -> list[jwt.PyJWK]:
    try:
        entries: Any = orjson.loads(body)["keys"]
        if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
            msg = f"it has no list of at most {_MOST_KEYS} keys"
            raise JwksError(msg)
    except (ValueError, TypeError, KeyError) as error:
        msg = "it is not a JSON Web Key Set"
        raise JwksError(msg) from error
    keys = [key for entry in entries if (key := _key(entry)) is not None]
    if not keys:
        msg = f"none of its keys is one for {', '.join(ALGORITHMS)}"
        raise JwksError(msg)
    return keys


def _key(entry: object) -> jwt.PyJWK | None:
    """Return a key that can check signatures; None for any other, which a set may well hold."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        key = jwt.PyJWK(entry)
    except jwt.PyJWTError:
        return None
    too_small = key.algorithm_name == "RS256" and key.key.key_size < _SMALLEST_RSA_BITS
    return key if key.algorithm_name in ALGORITHMS and not too_small else None


def _fitting(keys: list[jwt.PyJWK], algorithm: str, key_id: str | None) -> list[jwt.PyJWK]:
    return [key for key in keys if key.algorithm_name == algorithm and key_id in (None, key.key_id)]


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses those that lead inside the network. What it returns is what is connected to."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = 0,  # type: ignore[assignment]  # aiohttp's own default
    ) -> list[ResolveResult]:
        """Return a name's addresses. Raises `OSError` where one of them is not public."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not is_public(ipaddress.ip_address(each["host"])):
                raise OSError(_inside(host))
        return found

    async def close(self) -> None:
        """Close."""
        await self._resolver.close()


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Say whether an address is one of the Internet's, also where it is an IPv4 address in the clothes of IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _nat64(address)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _inside(what: str) -> str:
    return f"{what} is inside the network; BELLHOP_JWKS_ALLOW_PRIVATE=true allows that"

"""Public keys that an identity provider publishes as a JSON Web Key Set (RFC 7517), fetched carefully and remembered.

The URL comes from an operator, and what it answers from somebody else: so it is fetched in bounded time and size,
without redirects, and never from an address inside the network unless that is allowed, however the URL spells it.
Keys are fetched again when they are old, or when a token names one that is not there; only the latter waits. A provider
that is slow or away does not lock users out, because keys that were known stay valid for a day.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
import orjson
import structlog

from models.background import end
from models.errors import TokenInvalidError, UnavailableError

if TYPE_CHECKING:
    from aiohttp import AddrInfoType

log = structlog.get_logger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
_TIMEOUT_S = 3.0
_MOST_BYTES = 256 * 1024
_MOST_KEYS = 100
_FRESH_S = 600.0  # older keys are believed while they are fetched again
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
    failed: bool = False  # the last fetch did, or has not ended yet
    fetching: asyncio.Task[None] | None = None

    def was_not_asked_for(self, seconds: float) -> bool:
        return time.monotonic() - self.asked_at > seconds

    def fitting(self, algorithm: str, key_id: str | None) -> list[jwt.PyJWK]:
        if time.monotonic() - self.fetched_at > _STALE_S:
            return []
        return [key for key in self.keys if key.algorithm_name == algorithm and key_id in (None, key.key_id)]


class Jwks:
    """The key sets of all URLs that were asked for. `allow_private`: also http, and addresses inside the network.

    Whoever owns it closes it.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._sets: dict[str, _KeySet] = {}

    async def keys(self, url: str, algorithm: str, key_id: str | None) -> list[jwt.PyJWK]:
        """Return the keys that may have signed a token: the one it names, or all of its algorithm where it names none.

        Raises `TokenInvalidError` where the provider has no such key, `UnavailableError` where nobody can say.
        """
        known = self._sets.setdefault(url, _KeySet())
        found = known.fitting(algorithm, key_id)
        patience = _RETRY_S if known.failed else _FRESH_S if found else _AGAIN_S
        if known.was_not_asked_for(patience):
            fetching = self._begin_fetch_unless_begun(url, known)
            if not found:  # the provider may have a new key
                await asyncio.wait([fetching])
                found = known.fitting(algorithm, key_id)
        if not found and known.failed:
            detail = "The keys that tokens are signed with cannot be fetched; try again"
            raise UnavailableError(detail)
        if not found:
            raise TokenInvalidError
        return found

    async def close(self) -> None:
        """End the fetches that have not ended."""
        await end(known.fetching for known in self._sets.values() if known.fetching is not None)

    def _begin_fetch_unless_begun(self, url: str, known: _KeySet) -> asyncio.Task[None]:
        """Fetch for whoever comes meanwhile: as a task, because the one who came first may give up."""
        if known.fetching is None or known.fetching.done():
            known.fetching = asyncio.create_task(self._fetch_into(known, url))
        return known.fetching

    async def _fetch_into(self, known: _KeySet, url: str) -> None:
        known.failed = True
        try:
            known.keys = await self._fetch(url)
            known.fetched_at = time.monotonic()
            known.failed = False
        except JwksError as error:
            log.warning("the key set cannot be fetched", url=url, error=str(error))
        except Exception:
            log.exception("the key set cannot be fetched", url=url)
        finally:
            known.asked_at = time.monotonic()

    async def _fetch(self, url: str) -> list[jwt.PyJWK]:
        """Raise `JwksError`."""
        if not self._allow_private and not url.lower().startswith("https://"):
            msg = "it is not an https URL; BELLHOP_JWKS_ALLOW_PRIVATE=true allows others"
            raise JwksError(msg)
        connector = aiohttp.TCPConnector(socket_factory=None if self._allow_private else _open_if_public)
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
        too_small = key.algorithm_name == "RS256" and key.key.key_size < _SMALLEST_RSA_BITS
    except Exception:  # noqa: BLE001  # of an odd entry comes a PyJWTError, TypeError, KeyError, NotImplementedError, …
        return None
    return key if key.algorithm_name in ALGORITHMS and not too_small else None


def _open_if_public(address: AddrInfoType) -> socket.socket:
    """Open a socket for the address that is connected to next, be it what a name resolved to or what the URL spells.

    Raises `PermissionError`.
    """
    family, kind, protocol, _, (host, *_) = address
    if not is_public(ipaddress.ip_address(host)):
        msg = f"{host} is inside the network; BELLHOP_JWKS_ALLOW_PRIVATE=true allows that"
        raise PermissionError(errno.EACCES, msg)  # aiohttp reports no text without a number
    return socket.socket(family, kind, protocol)


_HANDED_OUT = ipaddress.IPv6Network("2000::/3")  # the rest is for this host, this site, translators, or nobody yet
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_HOSTS = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocols; a cloud has its metadata service there
    ipaddress.IPv6Network("2001::/23"),  # protocols, among them Teredo, which leads to an IPv4 address
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Say whether an address is one of the Internet's, also where it is an IPv4 address in the clothes of IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _nat64(address)
        if inner is not None:
            return is_public(inner)
        if address not in _HANDED_OUT:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_HOSTS)


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None

"""Keys of an identity provider: believed as far as they go, fetched carefully, remembered, changed."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import json
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from models import jwks
from models.errors import TokenInvalidError, UnavailableError
from models.jwks import Jwks, JwksError, is_public
from models.tokens import TenantKeys, verify_token
from tests.conftest import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Answer = Callable[[web.Request], Any]

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


def published(algorithm: str, key: Any, key_id: str | None = None, **more: Any) -> dict[str, Any]:
    encoded = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)  # type: ignore[attr-defined]
    return {**encoded, "use": "sig", **({} if key_id is None else {"kid": key_id}), **more}


ALL = [published(algorithm, key, algorithm) for algorithm, key in PRIVATE.items()]


def signed(algorithm: str, key: Any = None, key_id: str | None = "", **claims: Any) -> str:
    headers = {} if key_id is None else {"kid": key_id or algorithm}
    whole = {"sub": "u_1", "tenant": "default", "exp": int(time.time()) + 600, **claims}
    return jwt.encode(whole, key or PRIVATE[algorithm], algorithm=algorithm, headers=headers)


class Provider:
    """An identity provider on loopback that counts how often it was asked."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = list(ALL)
        self.asked = 0
        self.answer: Answer | None = None
        self.released = asyncio.Event()
        self.url = ""
        self._asking = asyncio.Condition()

    async def handle(self, request: web.Request) -> Any:
        async with self._asking:
            self.asked += 1
            self._asking.notify_all()
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response({"keys": self.entries})

    async def hang(self, _: web.Request) -> Any:
        await self.released.wait()
        return web.json_response({"keys": self.entries})

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(5), self._asking:
            await self._asking.wait_for(lambda: self.asked >= times)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with serving() as running:
        yield running


@asynccontextmanager
async def serving() -> AsyncIterator[Provider]:
    running = Provider()
    app = web.Application()
    app.router.add_get("/{tail:.*}", running.handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    running.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/jwks.json"  # type: ignore[union-attr]
    try:
        yield running
    finally:
        await runner.cleanup()


class Tenants:
    def __init__(self, url: str | None) -> None:
        self._keys = TenantKeys((SECRET, "a secret of yesterday, long enough"), url)

    async def of(self, tenant: str) -> TenantKeys | None:
        return self._keys if tenant == "default" else None


async def who(token: str, provider: Provider, keys: Jwks | None = None) -> str:
    return (await verify_token(token, Tenants(provider.url), keys or Jwks(allow_private=True))).user


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize("named", [True, False])
async def test_a_token_that_a_provider_signed_lets_in(algorithm: str, named: bool, provider: Provider) -> None:
    assert await who(signed(algorithm, key_id="" if named else None), provider) == "u_1"


async def test_both_secrets_let_in_while_they_are_changed(provider: Provider) -> None:
    for secret in (SECRET, "a secret of yesterday, long enough"):
        assert await who(signed("HS256", secret, None), provider) == "u_1"
    with pytest.raises(TokenInvalidError):
        await who(signed("HS256", "a secret of the day before, long enough", None), provider)
    assert provider.asked == 0


OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FORGED = {
    "another key under a known name": lambda: signed("RS256", OTHER, "RS256"),
    "an unknown name": lambda: signed("RS256", OTHER, "who"),
    "a name of another algorithm": lambda: signed("RS256", RSA, "ES256"),
    "another algorithm of the same key": lambda: signed("PS256", RSA, "RS256"),
    "a public key as a secret": lambda: forged_with(json.dumps(ALL[0])),
    "a name that is no text": lambda: jwt.encode(
        {"sub": "u_1", "tenant": "default", "exp": 2e9}, RSA, "RS256", headers={"x": 1}
    ).replace(".", "x.", 1),
}


def forged_with(secret: str) -> str:
    """Sign with a public key as if it were a secret, which the library would refuse to do."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"sub": "u_1", "tenant": "default", "exp": int(time.time()) + 600}
    signed_part = ".".join(part(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": "RS256"}, claims))
    return f"{signed_part}.{part(hmac.digest(secret.encode(), signed_part.encode(), 'sha256'))}"


@pytest.mark.parametrize("what", FORGED)
async def test_refuses_a_token_with(what: str, provider: Provider) -> None:
    with pytest.raises(TokenInvalidError):
        await who(FORGED[what](), provider)


async def test_without_a_url_only_secrets_count() -> None:
    with pytest.raises(TokenInvalidError):
        await verify_token(signed("RS256"), Tenants(None), Jwks(allow_private=True))


@pytest.mark.parametrize(
    "entry",
    [
        published("RS256", RSA, "RS256", use="enc"),
        {**published("RS256", RSA, "RS256"), "d": "AQAB"},
        published("RS256", rsa.generate_private_key(public_exponent=65537, key_size=1024), "RS256"),  # noqa: S505
        {"kty": "oct", "k": "c2VjcmV0", "kid": "RS256"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "RS256"},
        published("RS256", RSA, "RS256", alg=["x"]),
        published("RS256", RSA, "RS256", alg={"RS256": True}),
        published("RS256", RSA, "RS256", alg="none"),
        published("RS256", RSA, "RS256", kty=["RSA"]),
        published("RS256", RSA, "RS256", n=5),
        {"kty": "oct", "alg": "RS256", "kid": "RS256"},
        {"kty": "oct", "alg": "HS256", "kid": "RS256"},
        "RS256",
    ],
)
async def test_does_not_use_an_entry_that_is_no_key_for_signatures(entry: Any, provider: Provider) -> None:
    provider.entries = [entry, ALL[1]]
    keys = Jwks(allow_private=True)
    with pytest.raises(TokenInvalidError):
        await who(signed("RS256"), provider, keys)
    assert await who(signed("ES256"), provider, keys) == "u_1"


# --- rotation and memory ---------------------------------------------------------------------------------------------


async def test_many_tokens_ask_the_provider_once(provider: Provider) -> None:
    keys = Jwks(allow_private=True)
    tokens = [signed(algorithm) for algorithm in PRIVATE] * 30
    assert set(await asyncio.gather(*(who(token, provider, keys) for token in tokens))) == {"u_1"}
    assert provider.asked == 1


async def test_a_new_key_is_found_and_an_old_one_forgotten(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_AGAIN_S", 0.0)
    keys = Jwks(allow_private=True)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    provider.entries = [published("RS256", OTHER, "new")]
    assert await who(signed("RS256", OTHER, "new"), provider, keys) == "u_1"
    assert provider.asked == 2
    with pytest.raises(TokenInvalidError):
        await who(signed("RS256"), provider, keys)


async def test_made_up_names_do_not_make_it_ask_again_and_again(provider: Provider) -> None:
    keys = Jwks(allow_private=True)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    for nth in range(50):
        with pytest.raises(TokenInvalidError):
            await who(signed("RS256", OTHER, f"made up {nth}"), provider, keys)
    assert provider.asked <= 2


async def test_known_keys_outlive_a_provider_that_is_away(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Jwks(allow_private=True)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    monkeypatch.setattr(jwks, "_FRESH_S", 0.0)
    monkeypatch.setattr(jwks, "_RETRY_S", 0.0)
    provider.answer = refuse
    assert await who(signed("RS256"), provider, keys) == "u_1"
    await fetched(keys, provider)
    assert provider.asked == 2
    monkeypatch.setattr(jwks, "_STALE_S", 0.0)
    with pytest.raises(UnavailableError):
        await who(signed("RS256"), provider, keys)


async def fetched(keys: Jwks, provider: Provider) -> None:
    """Return when the fetch in the background has ended."""
    fetching = keys._sets[provider.url].fetching
    assert fetching is not None
    async with asyncio.timeout(5):
        await asyncio.wait([fetching])


async def test_a_slow_provider_slows_no_token_whose_key_is_known(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_TIMEOUT_S", 60.0)
    keys = Jwks(allow_private=True)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    monkeypatch.setattr(jwks, "_FRESH_S", 0.0)
    monkeypatch.setattr(jwks, "_RETRY_S", 0.0)
    provider.answer = provider.hang
    provider.entries = [published("RS256", OTHER, "new")]
    async with asyncio.timeout(5):
        for _ in range(20):
            assert await who(signed("RS256"), provider, keys) == "u_1"
            await provider.until_asked(2)
    provider.released.set()
    await fetched(keys, provider)
    assert provider.asked == 2
    assert await who(signed("RS256", OTHER, "new"), provider, keys) == "u_1"
    with pytest.raises(TokenInvalidError):
        await who(signed("RS256"), provider, keys)
    await keys.close()


async def test_a_key_that_could_not_be_asked_for_is_not_called_wrong(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_AGAIN_S", 0.0)
    keys = Jwks(allow_private=True)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    provider.answer = refuse
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await who(signed("RS256", OTHER, "new"), provider, keys)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    assert provider.asked == 2
    provider.answer = None
    provider.entries = [published("RS256", OTHER, "new")]
    monkeypatch.setattr(jwks, "_RETRY_S", 0.0)
    assert await who(signed("RS256", OTHER, "new"), provider, keys) == "u_1"
    with pytest.raises(TokenInvalidError):
        await who(signed("RS256", OTHER, "made up"), provider, keys)


async def test_after_a_failure_a_new_key_is_asked_for_soon(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_AGAIN_S", 0.0)
    keys = Jwks(allow_private=True)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    provider.answer = refuse
    with pytest.raises(UnavailableError):
        await who(signed("RS256", OTHER, "new"), provider, keys)
    monkeypatch.setattr(jwks, "_AGAIN_S", 10.0)
    monkeypatch.setattr(jwks, "_RETRY_S", 0.0)
    provider.answer = None
    provider.entries = [published("RS256", OTHER, "new")]
    assert await who(signed("RS256", OTHER, "new"), provider, keys) == "u_1"


async def test_who_came_first_may_give_up_without_the_others(provider: Provider) -> None:
    provider.answer = provider.hang
    keys = Jwks(allow_private=True)
    first, second = (asyncio.create_task(who(signed("RS256"), provider, keys)) for _ in range(2))
    await provider.until_asked(1)
    first.cancel()
    await asyncio.wait([first])
    provider.released.set()
    assert await second == "u_1"
    assert provider.asked == 1


async def test_no_fetch_outlives_its_owner(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_TIMEOUT_S", 60.0)
    keys = Jwks(allow_private=True)
    assert await who(signed("RS256"), provider, keys) == "u_1"
    monkeypatch.setattr(jwks, "_AGAIN_S", 0.0)
    provider.answer = provider.hang
    waiting = asyncio.create_task(who(signed("RS256", OTHER, "new"), provider, keys))
    await provider.until_asked(2)
    async with asyncio.timeout(5):
        await keys.close()
        with pytest.raises(UnavailableError):
            await waiting
    await fetched(keys, provider)


async def refuse(_: web.Request) -> web.Response:
    raise web.HTTPServiceUnavailable


# --- a URL that is not to be trusted ---------------------------------------------------------------------------------


async def slow(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise web.HTTPOk


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" ")
        await asyncio.sleep(0.05)
    return response


async def huge(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1_000):
        await response.write(b" " * 1_000_000)
    return response


async def redirecting(request: web.Request) -> web.Response:
    raise web.HTTPFound(location="http://127.0.0.1:1/jwks.json")


async def noise(_: web.Request) -> web.Response:
    return web.Response(text="<html>")


async def no_keys(_: web.Request) -> web.Response:
    return web.json_response({"keys": []})


async def too_many_keys(_: web.Request) -> web.Response:
    return web.json_response({"keys": ALL * 100})


@pytest.mark.parametrize("answer", [slow, trickle, huge, redirecting, noise, no_keys, too_many_keys, refuse])
async def test_is_unavailable_where_the_url_is(
    answer: Answer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_TIMEOUT_S", 0.5)
    provider.answer = answer
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        await who(signed("RS256"), provider)
    assert time.monotonic() - started < 3
    assert provider.asked == 1


async def test_a_provider_that_is_away_is_not_asked_for_every_token(provider: Provider) -> None:
    provider.answer = refuse
    keys = Jwks(allow_private=True)
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await who(signed("RS256"), provider, keys)
    assert provider.asked == 1


async def test_refuses_a_url_inside_the_network_unless_it_is_allowed(provider: Provider) -> None:
    port = provider.url.rpartition(":")[2]
    for url in (
        provider.url,
        provider.url.replace("http", "https"),
        f"https://localhost:{port}",
        f"https://[::1]:{port}",
    ):
        with pytest.raises(UnavailableError):
            await Jwks(allow_private=False).keys(url, "RS256", None)
    assert provider.asked == 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",  # digits as wide as a Chinese character
        "127\u30020\u30020\u30021",  # with its full stop
        "\u2460\u2461\u2466.0.0.1",  # digits in circles
        "localhost",
        "\u24dbocalhost",
    ],
)
async def test_connects_to_nothing_inside_the_network_however_it_is_spelt(host: str) -> None:
    connected: list[str] = []

    async def on_connect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(host)
        writer.close()

    async with await asyncio.start_server(on_connect, "127.0.0.1", 0) as server:
        url = f"https://{host}:{server.sockets[0].getsockname()[1]}/jwks.json"
        with pytest.raises(JwksError):
            await Jwks(allow_private=True)._fetch(url)
        assert connected == [host]  # so it does lead there
        with pytest.raises(JwksError, match="inside the network"):
            await Jwks(allow_private=False)._fetch(url)
        assert connected == [host]


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("93.184.216.34", 443)),
        (socket.AF_INET6, ("2606:2800:220:1::1", 443, 0, 0)),
    ],
)
def test_may_connect_to_what_is_public(family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
    with jwks._open_if_public((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)) as opened:
        assert (opened.family, opened.type) == (family, socket.SOCK_STREAM)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::93.184.216.34", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104  # refused, not bound to
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
        ("fe80::1%lo", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::10.0.0.1", False),
        ("64:ff9b:1::93.184.216.34", False),
        ("::", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("2002:a00:1::1", False),
        ("2001:0:7f00:1:0:0:80ff:fffe", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("192.0.0.192", False),
    ],
)
def test_tells_addresses_of_the_internet_from_others(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public

"""Keys of an identity provider: believed as far as they go, remembered, changed."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from models import jwks
from models.errors import TokenInvalidError, UnavailableError
from models.jwks import Jwks
from models.tokens import verify_token
from tests.conftest import SECRET
from tests.models.identity_provider import ALL, PRIVATE, RSA, Tenants, published, refuse, signed, who

if TYPE_CHECKING:
    from tests.models.identity_provider import Provider


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

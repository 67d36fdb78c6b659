"""An identity provider that signs tokens and publishes its keys, and a way to ask whom a token lets in."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from models.jwks import Jwks
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


async def refuse(_: web.Request) -> web.Response:
    raise web.HTTPServiceUnavailable

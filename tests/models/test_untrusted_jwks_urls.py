"""Where keys are published is a URL that is not to be trusted: what it answers is bounded, and where it leads, too."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from models import jwks
from models.errors import UnavailableError
from models.jwks import Jwks, JwksError, is_public
from tests.models.identity_provider import ALL, refuse, signed, who

if TYPE_CHECKING:
    from tests.models.identity_provider import Answer, Provider


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

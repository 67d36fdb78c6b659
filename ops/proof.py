"""Sends one notification through everything and waits for it on a real socket: the proof that a stack works."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx
import socketio

_TIMEOUT_S = 20.0
USER = "bellhop_proof"


class ProofError(Exception):
    """The notification did not arrive; the text says how far it came."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How long one notification took, in milliseconds, from before its POST."""

    accepted_ms: float
    arrived_ms: float


async def prove(api_url: str, socket_url: str, api_key: str) -> Proof:
    """Mint a token, connect, send, receive. Raises `ProofError`."""
    stage = "asking for a token"
    client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
    try:
        async with (
            asyncio.timeout(_TIMEOUT_S),
            httpx.AsyncClient(
                base_url=api_url, headers={"Authorization": f"Bearer {api_key}"}, trust_env=False
            ) as http,
        ):
            token = _answer(await http.post("/v1/tokens", json={"user": USER, "ttl": 60}))["token"]
            stage = "connecting a socket"
            ready = asyncio.Event()
            frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            client.on("ready", lambda _frame: ready.set())
            client.on("inbox", frames.put_nowait)
            await client.connect(socket_url, auth={"token": token}, transports=["websocket"])
            stage = "waiting for the socket's `ready`"
            await ready.wait()
            stage = "posting the notification"
            started = time.perf_counter()
            sent = _answer(await http.post("/v1/notifications", json=_notification()))
            accepted = time.perf_counter()
            stage = f"waiting for notification {sent['id']}, which was accepted, on the socket"
            while True:
                frame = await frames.get()
                if any(entry.get("item", {}).get("id") == sent["id"] for entry in frame["entries"]):
                    break
            arrived = time.perf_counter()
            await client.call("ack", {"seq": frame["to"]}, timeout=5)
            return Proof((accepted - started) * 1000, (arrived - started) * 1000)
    except TimeoutError as error:
        msg = f"nothing came within {_TIMEOUT_S:.0f} s while {stage}"
        raise ProofError(msg) from error
    except (httpx.HTTPError, socketio.exceptions.SocketIOError, KeyError) as error:
        msg = f"failed while {stage}: {error!r}"
        raise ProofError(msg) from error
    finally:
        await client.disconnect()


def _notification() -> dict[str, Any]:
    return {
        "to": {"user": USER},
        "type": "bellhop.stack.started",
        "priority": "high",
        "title": "The stack is up",
        "body": "This went from the API through Postgres, a worker and a socket node to a client.",
    }


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        msg = f"{response.request.method} {response.request.url.path} answered {response.status_code}: {response.text}"
        raise ProofError(msg)
    answer: dict[str, Any] = response.json()
    return answer

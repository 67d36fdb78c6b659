"""A user's device at the REST API: one connection that stays open, one request after the other, each timed."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from ops.bench.endpoint import StackError
from ops.bench.lab import backstage_of

if TYPE_CHECKING:
    from ops.bench.endpoint import Endpoint

_TIMEOUT_S = 30.0
_OK = 200


class RestDevice:
    """A user's connection. An answer other than 200 is a `StackError`."""

    def __init__(self, endpoint: Endpoint, user: str) -> None:
        address = urlsplit(backstage_of(endpoint).api_url)
        self._http = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {endpoint.token_of(user)}"}

    def get(self, path: str) -> tuple[dict[str, Any], float]:
        """Return an answer, and after how many seconds it was there."""
        return self._request("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Return an answer, and after how many seconds it was there."""
        return self._request("POST", path, orjson.dumps(body))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[dict[str, Any], float]:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        started = time.perf_counter()
        try:
            self._http.request(method, path, body, headers)
            response = self._http.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            msg = f"{method} {path} was not answered: {error!r}"
            raise StackError(msg) from error
        took = time.perf_counter() - started
        if response.status != _OK:
            msg = f"{method} {path} answered {response.status}: {raw[:300].decode(errors='replace')}"
            raise StackError(msg)
        answer: dict[str, Any] = orjson.loads(raw)
        return answer, took

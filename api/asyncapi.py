"""The socket API as an AsyncAPI 3 document, made from `models.socket_events` and `models.errors`. Pure.

In AsyncAPI's words, the application is Bellhop: what it sends are the server's events, what it receives the client's,
and an answer to a client's event is its reply.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from models.errors import socket_errors
from models.fields import MAX_SOCKET_MESSAGE_BYTES
from models.socket_events import CLIENT_EVENTS, SERVER_EVENTS, Handshake, Refused

if TYPE_CHECKING:
    from pydantic import BaseModel

_CHANNEL = "socket"
_REF = "#/components/schemas/{model}"
_ABOUT = f"""A user's device connects with any Socket.IO client of version 4, to the namespace `/`, by WebSocket or long
polling, with a user token: `io(url, {{auth: {{token, since}}}})`. The server answers `ready`, and from then on every
number of the inbox's log comes once and in order, in `inbox` frames; whatever gets lost on the way is repaired by the
server. A client that comes back says which number it holds, in `since`, and gets exactly what it missed.

Every client event is answered, by the acknowledgement that Socket.IO calls back with: `{{"ok": true, …}}` or
`{{"ok": false, "error": {{code, detail}}}}`, and in the latter case an `error` event comes besides. A refused handshake
is a `connect_error` whose `data` is `{{code, detail}}`. A message may have {MAX_SOCKET_MESSAGE_BYTES // 1024} KiB, and
is JSON: binary packets are refused."""


def asyncapi() -> dict[str, Any]:
    """Return the document."""
    sent = {name: _message(name, model) for name, model in SERVER_EVENTS.items()}
    received: dict[str, Any] = {}
    for name, (model, answer) in CLIENT_EVENTS.items():
        received[name] = _message(name, model)
        received[f"{name}.ok"] = _message(f"{name}: it worked", answer)
    received["refused"] = _message("it did not work", Refused)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Bellhop, on sockets",
            "version": "0.1.0",
            "description": f"{_ABOUT}\n\n## Codes\n\n{_codes()}",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "socket": {
                "host": "{host}",
                "variables": {
                    "host": {"default": "localhost:8001", "description": "Host and port, as this installation has them"}
                },
                "pathname": "/socket.io/",
                "protocol": "socketio",
                "protocolVersion": "5",
                "description": "A socket node; behind the shipped nginx, the same host and port as REST",
                "security": [{"$ref": "#/components/securitySchemes/userToken"}],
            }
        },
        "channels": {
            _CHANNEL: {
                "address": "/",
                "title": "The namespace /",
                "servers": [{"$ref": "#/servers/socket"}],
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in (*sent, *received)},
                "bindings": {"ws": {"query": _QUERY}},
            }
        },
        "operations": {
            **{name: _operation("send", name, SERVER_EVENTS[name]) for name in sent},
            **{name: _operation("receive", name, model) | _reply(name) for name, (model, _) in CLIENT_EVENTS.items()},
        },
        "components": {
            "messages": sent | received,
            "schemas": _schemas(),
            "securitySchemes": {
                "userToken": {
                    "type": "userPassword",
                    "description": "`auth` of the connection: a user token (JWT), and optionally `since`. See the "
                    "schema Handshake.",
                }
            },
        },
    }


_QUERY = {
    "type": "object",
    "properties": {
        "EIO": {"type": "string", "const": "4"},
        "transport": {"type": "string", "enum": ["websocket", "polling"]},
    },
}


def _message(title: str, model: type[BaseModel]) -> dict[str, Any]:
    extra: Any = model.model_config.get("json_schema_extra")
    example: dict[str, Any] = {"examples": [{"payload": each} for each in extra["examples"]]}
    return {
        "name": title,
        "title": title,
        "summary": about(model)[0],
        "payload": {"$ref": _REF.format(model=model.__name__)},
        **example,
    }


def _operation(action: str, name: str, model: type[BaseModel]) -> dict[str, Any]:
    summary, rest = about(model)
    return {
        "action": action,
        "title": name,
        "summary": summary,
        "description": rest or summary,
        "channel": {"$ref": f"#/channels/{_CHANNEL}"},
        "messages": [{"$ref": f"#/channels/{_CHANNEL}/messages/{name}"}],
    }


def _reply(name: str) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/{_CHANNEL}/messages/{answer}"} for answer in (f"{name}.ok", "refused")]
    return {"reply": {"channel": {"$ref": f"#/channels/{_CHANNEL}"}, "messages": messages}}


def about(model: type[BaseModel]) -> tuple[str, str]:
    """Return the first sentence or two of a model's docstring, which stand in its first paragraph, and the rest."""
    first, _, rest = inspect.cleandoc(model.__doc__ or "").partition("\n\n")
    return " ".join(first.split()), " ".join(rest.split())


def _codes() -> str:
    rows = [f"| `{error.code}` | {error.title} |" for error in socket_errors()]
    return "\n".join(["| code | what it means |", "| --- | --- |", *rows])


def _schemas() -> dict[str, Any]:
    inputs: list[type[BaseModel]] = [Handshake, *(model for model, _ in CLIENT_EVENTS.values())]
    answers = [answer for _, answer in CLIENT_EVENTS.values()]
    outputs: list[type[BaseModel]] = [*SERVER_EVENTS.values(), *answers, Refused]
    _, found = models_json_schema(
        [*((model, "validation") for model in inputs), *((model, "serialization") for model in outputs)],
        ref_template=_REF,
    )
    schemas: dict[str, Any] = {name: _adapted(schema) for name, schema in found["$defs"].items()}
    return dict(sorted(schemas.items()))


def _adapted(schema: Any) -> Any:  # noqa: ANN401  # JSON is anything
    """Return a schema as AsyncAPI has it: there, a discriminator is the name of a property."""
    if isinstance(schema, list):
        return [_adapted(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value["propertyName"] if name == "discriminator" and isinstance(value, dict) else _adapted(value)
        for name, value in schema.items()
    }

"""`/asyncapi.json`, and `/docs/sockets`: the same for people. One page without anything from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Response

from api.asyncapi import about, asyncapi
from api.bodies import JSON
from models.contracts import ArrivalEntry, ChangeEntry, Counts, Item, PresenceOut, RoomEntry
from models.errors import socket_errors
from models.fields import MAX_SEQ
from models.socket_events import CLIENT_EVENTS, SERVER_EVENTS, Handshake, Refused, SocketError

if TYPE_CHECKING:
    from pydantic import BaseModel

_OBJECTS: tuple[type[BaseModel], ...] = (Counts, ArrivalEntry, ChangeEntry, Item, RoomEntry, PresenceOut, SocketError)
router = APIRouter(include_in_schema=False)


@router.get("/asyncapi.json")
async def document() -> Response:
    """Answer the AsyncAPI document of the socket API."""
    return Response(_document(), media_type=JSON)


@router.get("/docs/sockets")
async def page() -> Response:
    """Show the socket API."""
    return Response(_page(), media_type="text/html; charset=utf-8")


@cache
def _document() -> bytes:
    return orjson.dumps(asyncapi())


@cache
def _page() -> str:
    document = asyncapi()
    info = document["info"]
    intro = info["description"].partition("\n\n## ")[0]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(info["title"])}</title>
<style>{_STYLE}</style>
</head>
<body>
<nav>
<a href="/docs">REST</a> <a href="/asyncapi.json">asyncapi.json</a>
<h2>Server to client</h2>{_links(SERVER_EVENTS)}
<h2>Client to server</h2>{_links(CLIENT_EVENTS)}
<h2>Both</h2>
<a href="#handshake">handshake</a> <a href="#refused">refusals</a> <a href="#objects">objects</a>
<a href="#codes">codes</a>
</nav>
<main>
<h1>{escape(info["title"])}</h1>
{_paragraphs(intro)}
<section id="handshake"><h2>Handshake</h2>{_described(Handshake, "The <code>auth</code> of the connection")}</section>
<h2>Server to client</h2>
{"".join(_server_event(name, model) for name, model in SERVER_EVENTS.items())}
<h2>Client to server</h2>
{"".join(_client_event(name, *models) for name, models in CLIENT_EVENTS.items())}
<section id="refused"><h2>Refusals</h2>{_described(Refused, "In place of any answer")}</section>
<section id="objects"><h2>Objects</h2>{"".join(map(_object, _OBJECTS))}</section>
<section id="codes"><h2>Codes</h2><table>{"".join(map(_code, socket_errors()))}</table></section>
</main>
</body>
</html>
"""


def _links(names: dict[str, Any]) -> str:
    return " ".join(f'<a href="#{name}">{name}</a>' for name in names)


def _server_event(name: str, model: type[BaseModel]) -> str:
    return f'<section id="{name}"><h3>{name}</h3>{_described(model, "Payload")}</section>'


def _client_event(name: str, model: type[BaseModel], answer: type[BaseModel]) -> str:
    return (
        f'<section id="{name}"><h3>{name}</h3>{_described(model, "Payload")}'
        f"<h4>Answer</h4>{_described(answer, 'Where it worked')}</section>"
    )


def _described(model: type[BaseModel], title: str) -> str:
    summary, rest = about(model)
    extra: Any = model.model_config.get("json_schema_extra")
    example = orjson.dumps(extra["examples"][0], option=orjson.OPT_INDENT_2).decode()
    return (
        f"<p>{_inline(summary)}</p>"
        + (f"<p>{_inline(rest)}</p>" if rest else "")
        + _table(model)
        + f"<figure><figcaption>{title}, for example</figcaption><pre>{escape(example)}</pre></figure>"
    )


def _object(model: type[BaseModel]) -> str:
    return f"<h3>{model.__name__}</h3><p>{_inline(about(model)[0])}</p>{_table(model)}"


def _table(model: type[BaseModel]) -> str:
    return f"<table>{''.join(_property(*each) for each in _properties(model))}</table>"


def _properties(model: type[BaseModel]) -> list[tuple[str, str, str]]:
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", ())
    return [
        (name, _type(each), ", ".join([*([] if name in required else ["optional"]), *_bounds(each)]))
        for name, each in schema.get("properties", {}).items()
    ]


def _property(name: str, kind: str, note: str) -> str:
    return f"<tr><th><code>{escape(name)}</code></th><td>{escape(kind)} <small>{escape(note)}</small></td></tr>"


def _type(schema: dict[str, Any]) -> str:
    """Return a schema in a few words."""
    match schema:
        case {"$ref": str(reference)}:
            words = reference.rpartition("/")[2]
        case {"anyOf": kinds} | {"oneOf": kinds}:
            words = " or ".join(map(_type, kinds))
        case {"const": value}:
            words = orjson.dumps(value).decode()
        case {"enum": values}:
            words = " or ".join(values)
        case {"type": "array", "items": items}:
            words = f"list of {_type(items)}"
        case {"additionalProperties": dict(values)}:
            words = f"{_type(values)} by name"
        case _:
            words = _FORMATS.get(schema.get("format", ""), str(schema.get("type", "anything")))
    return words


def _bounds(schema: dict[str, Any]) -> list[str]:
    """Return what restricts a value, and what stands for one that is left out."""
    inner = [bound for each in schema.get("anyOf", ()) for bound in _bounds(each)]
    inner += _bounds(schema["items"]) if "items" in schema else []
    own = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema and schema[key] != MAX_SEQ]
    default = schema.get("default")
    return [*own, *inner, *([] if default is None else [f"{default} by default"])]


_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
    "maxLength": "at most {} characters",
    "pattern": "{}",
}
_FORMATS = {"date-time": "time, RFC 3339 in UTC", "uuid": "UUID"}


def _code(error: Any) -> str:  # noqa: ANN401  # a class of errors
    return f"<tr><th><code>{error.code}</code></th><td>{escape(error.title)}</td></tr>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n"))


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; display: grid; grid-template-columns: 14rem minmax(0, 50rem); }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1.5rem 1rem; border-right: 1px solid var(--line); }
nav a { display: block; text-decoration: none; padding: .1rem 0; }
nav h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .05em; opacity: .7; margin: 1.2rem 0 .3rem; }
main { padding: 1.5rem 2rem 6rem; }
h3 { scroll-margin-top: 1rem; font: 600 1.3rem ui-monospace, monospace; border-top: 1px solid var(--line); padding-top: 1.2rem; }
code, pre { font: .92em ui-monospace, monospace; }
p code, td code { background: var(--soft); border-radius: 3px; padding: .05em .3em; }
pre { background: var(--soft); border-radius: 6px; padding: .8rem 1rem; overflow: auto; margin: .3rem 0 0; }
figure { margin: 1rem 0; }
figcaption, small, footer { opacity: .7; font-size: .85rem; }
table { border-collapse: collapse; width: 100%; }
small:empty { display: none; }
th, td { text-align: left; vertical-align: top; font-weight: normal; padding: .25rem .8rem .25rem 0; }
tr + tr { border-top: 1px solid var(--line); }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: auto; border: 0; } nav a { display: inline; } }
"""  # noqa: E501  # CSS

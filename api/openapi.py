"""What the generated OpenAPI document cannot know by itself: bodies that handlers read, problems, examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from models import contracts
from models.errors import rest_errors

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_INPUTS: tuple[type[BaseModel], ...] = (
    contracts.NotificationIn,
    contracts.BulkIn,
    contracts.BulkItem,
    contracts.TokenIn,
    contracts.KeyIn,
    contracts.ItemPatch,
    contracts.ActionIn,
    contracts.RoomEventIn,
    contracts.Problem,
)


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


def body(model: type[BaseModel], *, ndjson: type[BaseModel] | None = None) -> dict[str, Any]:
    """Describe a request body that the handler reads itself."""
    content = {"application/json": _schema(model)}
    if ndjson is not None:
        content["application/x-ndjson"] = _schema(ndjson)
    return {"requestBody": {"required": True, "content": content}}


def header(name: str, description: str) -> dict[str, Any]:
    """Describe an optional request header."""
    return {
        "parameters": [
            {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}
        ]
    }


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the error answers, with the codes that each status can carry."""
    answers: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        codes = sorted({error.code for error in rest_errors() if error.status == status})
        answers[status] = {
            "description": f"Problem: {', '.join(codes)}",
            "content": {"application/problem+json": _schema(contracts.Problem)},
        }
    return answers


def install(app: FastAPI) -> None:
    """Make `app.openapi()` contain every wire model."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _, extra = models_json_schema([(model, "validation") for model in _INPUTS], ref_template=_REF)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in extra.get("$defs", {}).items():
                schemas.setdefault(name, schema)
            document["components"]["schemas"] = dict(sorted(schemas.items()))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document

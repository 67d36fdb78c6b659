"""What the generated OpenAPI document cannot know by itself: bodies that handlers read, problems, examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from api.examples import EXAMPLES
from models import contracts
from models.errors import (
    TokenExpiredError,
    TokenInvalidError,
    TokenRevokedError,
    UnauthorizedError,
    rest_errors,
)

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_TOKEN_ERRORS = (TokenExpiredError, TokenInvalidError, TokenRevokedError)
_INPUTS: tuple[type[BaseModel], ...] = (
    contracts.NotificationIn,
    contracts.BulkIn,
    contracts.BulkItem,
    contracts.TokenIn,
    contracts.KeyIn,
    contracts.ItemPatch,
    contracts.ActionIn,
    contracts.RoomEventIn,
    contracts.Subscribers,
    contracts.Subscriber,
    contracts.PreferencesIn,
    contracts.TypeIn,
    contracts.TenantIn,
    contracts.TenantPatch,
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


_REPLAYED = {"Idempotent-Replayed": "`true` where this was done before, under the same key"}
_LIMITS = {
    "RateLimit-Policy": "The key's quota `q` of notifications and events in `w` seconds",
    "RateLimit": "How many are left, `r`, and in how many seconds there will be more, `t`",
}


def _correct(operation: dict[str, Any]) -> None:
    """Put right what FastAPI supposes, and add what it does not know: who is refused with what, and headers."""
    answers = operation["responses"]
    if "application/json" in answers.get("422", {}).get("content", {}):
        del answers["422"]  # FastAPI's own form of it, which no path answers with
    if "401" in answers:
        takes_key = {"ApiKey": []} in operation["security"]
        codes = [UnauthorizedError.code] if takes_key else [error.code for error in _TOKEN_ERRORS]
        answers["401"]["description"] = f"Problem: {', '.join(codes)}"
    if "202" in answers:
        takes_idempotency_key = any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
        answers["202"]["headers"] = _headers(_LIMITS | (_REPLAYED if takes_idempotency_key else {}))
    if "429" in answers:
        answers["429"]["headers"] = _headers(_LIMITS | {"Retry-After": "Seconds to wait"})


def _headers(described: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in described.items()}


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
            for each in ("HTTPValidationError", "ValidationError"):
                schemas.pop(each, None)
            for name, example in EXAMPLES.items():
                schemas[name]["examples"] = [example]
                schemas[name].pop("example", None)  # inherited
            document["components"]["schemas"] = dict(sorted(schemas.items()))
            for operations in document["paths"].values():
                for operation in operations.values():
                    _correct(operation)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document

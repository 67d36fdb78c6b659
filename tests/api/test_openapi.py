"""The OpenAPI document explains itself: each operation, parameter and field of a request, each body by an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from api.examples import EXAMPLES
from api.main import create_app
from models import contracts
from tests.api.test_service import _references as references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.settings import Settings


@pytest.fixture
def document(settings: Settings) -> dict[str, Any]:
    return create_app(settings).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each kind of body of a request, and of each answer."""
    for name, part in {"the request": operation.get("requestBody", {}), **operation["responses"]}.items():
        for kind, content in part.get("content", {}).items():
            yield f"{name} as {kind}", content


def examples(content: dict[str, Any], schemas: dict[str, Any]) -> list[Any]:
    schema = schemas[content["schema"]["$ref"].rpartition("/")[2]] if "$ref" in content.get("schema", {}) else {}
    own = [holder["example"] for holder in (content, schema) if "example" in holder]
    return [*own, *schema.get("examples", ())]


def test_every_operation_and_parameter_says_what_it_is(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{parameter['name']} of {name}"


def test_every_body_has_an_example_that_fits(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, operation in operations(document):
        for which, content in bodies(operation):
            found = examples(content, schemas)
            assert found, f"{which} of {name}"
            for example in found:
                jsonschema.validate(example, {**content.get("schema", {}), "components": document["components"]})


def test_every_field_that_is_sent_says_what_it_is(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    wanted = {name for _, operation in operations(document) for name in references(operation.get("requestBody", {}))}
    while missing := {each for name in wanted for each in references(schemas[name])} - wanted:
        wanted |= missing
    for name in wanted:
        for field, schema in schemas[name].get("properties", {}).items():
            assert schema.get("description"), f"{field} of {name}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_one_of_its_model(name: str) -> None:
    getattr(contracts, name).model_validate(EXAMPLES[name])

"""JSON Schemas of `data`: nothing is fetched, no pattern backtracks, and what a check costs is bounded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api.data_schemas import DataSchema
from models.errors import ValidationFailedError

BOMB = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, 40)}


@pytest.mark.parametrize(
    ("schema", "pointer", "code"),
    [
        ({"$ref": "https://example.com/schema.json"}, "/schema/$ref", "remote_ref"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "/schema/properties/a/$ref", "remote_ref"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "/schema/properties/a/$ref", "remote_ref"),
        ({"$ref": "#anchor", "$anchor": "anchor"}, "/schema/$ref", "remote_ref"),
        ({"items": {"$dynamicRef": "#x"}}, "/schema/items/$dynamicRef", "bad_ref"),
        ({"$ref": "#/$defs/nowhere"}, "/schema/$ref", "bad_ref"),
        ({"$ref": 7}, "/schema/$ref", "remote_ref"),
        ({"anyOf": [True, {"$ref": "#"}]}, "/schema/anyOf/1/$ref", "circular_ref"),
        ({"properties": {"child": {"$ref": "#"}}}, "/schema/properties/child/$ref", "circular_ref"),
        ({"$defs": {"a": {"$id": "https://example.com/a"}}}, "/schema/$defs/a/$id", "bad_id"),
        ({"$defs": {"a0": {}, **BOMB}, "$ref": "#/$defs/a39"}, "/schema", "schema_too_long"),
        ({"anyOf": [{"pattern": f"^(a|b)*a(a|b){{200}}{n}"} for n in range(40)]}, "/schema", "schema_too_long"),
        ({"patternProperties": {f"^(a|b)*a(a|b){{200}}{n}": {} for n in range(40)}}, "/schema", "schema_too_long"),
        ({"$schema": "https://example.com/mine"}, "/schema", "bad_schema"),
        ({"type": "strin"}, "/schema/type", "bad_schema"),
        ({"properties": {"a/b": {"minimum": "x"}}}, "/schema/properties/a~1b/minimum", "bad_schema"),
        ({"properties": 3}, "/schema/properties", "bad_schema"),
    ],
)
def test_refuses_a_schema_that_cannot_be_used(schema: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        DataSchema(schema)
    (wrong,) = caught.value.errors
    assert (wrong.pointer, wrong.code) == (pointer, code)


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\1", "(", "((a{200}){200}){200}"])
def test_refuses_a_pattern_that_cannot_be_matched_in_linear_time(pattern: str) -> None:
    for schema in ({"properties": {"x": {"pattern": pattern}}}, {"patternProperties": {pattern: {}}}):
        with pytest.raises(ValidationFailedError) as caught:
            DataSchema(schema)
        assert "linear time" in caught.value.detail


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(.*a){20}$", r"^(\w+\s?)*$"])
def test_a_pattern_that_would_backtrack_for_ever_is_matched_at_once(pattern: str) -> None:
    schema = DataSchema({"properties": {"x": {"pattern": pattern}}})
    began = time.thread_time()
    with pytest.raises(ValidationFailedError):
        schema.require_valid({"x": "a" * 15 + "!" + "a" * 15_000 + "!"} if "20" not in pattern else {"x": "b" * 15_000})
    assert time.thread_time() - began < 0.5


def test_data_that_does_not_fit_is_pointed_at() -> None:
    schema = DataSchema(
        {
            "type": "object",
            "required": ["n"],
            "properties": {"n": {"type": "integer"}, "a/b": {"items": {"$ref": "#/$defs/name"}}},
            "$defs": {"name": {"type": "string", "maxLength": 3}},
        }
    )
    schema.require_valid({"n": 1, "a/b": ["x", "yy"], "more": None})
    with pytest.raises(ValidationFailedError) as caught:
        schema.require_valid({"a/b": ["x", 2, "long"]})
    assert [(wrong.pointer, wrong.code) for wrong in caught.value.errors] == [
        ("/data", "required"),
        ("/data/a~1b/1", "type"),
        ("/data/a~1b/2", "maxLength"),
    ]


def test_what_looks_like_a_reference_and_is_data_is_left_alone() -> None:
    DataSchema({"properties": {"$ref": {"const": {"$ref": "https://example.com"}}}}).require_valid({"x": 1})


def test_a_thousand_errors_are_told_as_fifty() -> None:
    with pytest.raises(ValidationFailedError) as caught:
        DataSchema({"additionalProperties": {"type": "string"}}).require_valid({f"k{n}": n for n in range(1_000)})
    assert len(caught.value.errors) == 50


STRINGS = [{"type": "string"}] * 900


@pytest.mark.parametrize(
    ("items", "item"),
    [
        ({"anyOf": STRINGS}, 0),
        ({"allOf": STRINGS}, 0),
        ({"anyOf": [{"anyOf": STRINGS[:30]}] * 30}, 0),
        ({"not": {"allOf": [{"$ref": "#/$defs/one"}] * 400}}, 1),
        ({"required": [f"a{n}" for n in range(3_000)]}, {}),
        ({"enum": ["x" * 30_000]}, 0),
        ({"dependencies": {"a": [f"a{n}" for n in range(3_000)]}}, {"a": 1}),
        ({"additionalProperties": {"oneOf": STRINGS}}, {"a": 1}),
    ],
)
def test_what_is_wrong_everywhere_is_refused_at_once(items: dict[str, Any], item: Any) -> None:
    schema = DataSchema({"properties": {"list": {"items": items}}, "$defs": {"one": {"const": 1}}})
    began = time.thread_time()
    with pytest.raises(ValidationFailedError) as caught:
        schema.require_valid({"list": [item] * 2_000})
    assert time.thread_time() - began < 0.5
    assert [(wrong.pointer, wrong.code) for wrong in caught.value.errors] == [("/data", "schema")]


def test_what_is_wrong_in_some_places_is_pointed_at_however_long_the_schema() -> None:
    names = [f"field_{n}" for n in range(200)]
    schema = DataSchema({"properties": {name: {"type": "string", "maxLength": 40} for name in names}})
    with pytest.raises(ValidationFailedError) as caught:
        schema.require_valid(dict.fromkeys(names, "x") | {"field_7": 7})
    assert [wrong.pointer for wrong in caught.value.errors] == ["/data/field_7"]

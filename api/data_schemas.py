"""JSON Schemas of `data`: checked when a type is put, so that checking data by them is bounded and needs no network.

Patterns are matched in linear time. A schema refers to parts of itself only, and never in a circle, so that it could be
written out in full; how long it would then be bounds what a validation costs. The library makes all errors at once, as
many as parts and values together: so it is asked for them only where there cannot be many.
"""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import orjson

from models.errors import FieldError, ValidationFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=2 * 1024 * 1024)
_MOST_PARTS = 1_000
_PARTS_PER_PATTERN = 30  # the worst takes 0.1 s for 16 KiB of text, and each looks at all of it at most
_MOST_WORK_TO_EXPLAIN = 40_000  # some 0.2 s, and 0.6 s for what is made to be slow
_CHARACTERS_PER_ERROR = 8  # of a part, at least: such as a name that is required
_MOST_ERRORS = 50
_LONGEST_DETAIL = 300
_ELSEWHERE = ("$dynamicRef", "$recursiveRef")
_ONE = frozenset(
    ("additionalItems", "additionalProperties", "contains", "contentSchema", "if", "then", "else", "items")
)
_ONE |= {"not", "propertyNames", "unevaluatedItems", "unevaluatedProperties"}
_SEVERAL = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"))
_UNUSED = frozenset(("$defs", "definitions"))
_ON_THE_SAME_VALUE = frozenset(
    ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
)


class DataSchema:
    """A compiled schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raise `ValidationFailedError` with pointers under `/schema` where it cannot be used."""
        self._extent = _Extent(schema)
        self._extent.require_bounded()
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, pattern_options=_PATTERNS, offline=True, mask="This value"
            )
        except jsonschema_rs.ValidationError as error:
            raise _refused(_pointer("/schema", error.instance_path), "bad_schema", _said(error)) from error

    def require_valid(self, data: dict[str, Any]) -> None:
        """Raise `ValidationFailedError` with pointers under `/data`."""
        if self._validator.is_valid(data):
            return
        if not self._extent.can_explain(data):
            detail = "It does not fit the schema of its type; there is too much of it to say where"
            raise _refused("/data", "schema", detail)
        errors = tuple(
            FieldError(_pointer("/data", error.instance_path), error.kind.name, error.message[:_LONGEST_DETAIL])
            for error in islice(self._validator.iter_errors(data), _MOST_ERRORS)
        )
        raise ValidationFailedError(errors=errors)


class _Extent:
    """How long a schema is with all its references written out."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._parts: dict[int, int] = {}  # by the identity of a part, which the root keeps alive
        self._within: set[int] = set()
        self._weights: dict[int, int] = {}  # by the same

    def require_bounded(self) -> None:
        """Raise `ValidationFailedError`."""
        if self._length(self._root, "/schema") > _MOST_PARTS:
            detail = (
                f"The schema must not have more than {_MOST_PARTS} parts, with every $ref written out, "
                f"where a pattern counts as {_PARTS_PER_PATTERN}"
            )
            raise _refused("/schema", "schema_too_long", detail)

    def can_explain(self, data: dict[str, Any]) -> bool:
        """Say whether only so many errors can be found in `data`, however wrong it is."""
        waiting: list[tuple[object, object]] = [(self._root, data)]
        left = _MOST_WORK_TO_EXPLAIN - self._weight(self._root)
        while waiting:
            part, value = waiting.pop()
            for pair in self._applied(part, value):
                left -= self._weight(pair[0])
                if left < 0:
                    return False
                waiting.append(pair)
        return left >= 0

    def _weight(self, part: object) -> int:
        """Return how many errors a part can give on one value by itself, or as how many its long texts count."""
        known = self._weights.get(id(part))
        if known is None:
            own = part
            if isinstance(part, dict):
                own = {key: said for key, said in part.items() if key not in _SEVERAL | _NAMED | _ONE}
            known = self._weights[id(part)] = 1 + len(orjson.dumps(own)) // _CHARACTERS_PER_ERROR
        return known

    def _applied(self, part: object, value: object) -> Iterator[tuple[object, object]]:
        """Yield the parts of a part, each with every value that it is to check."""
        for keyword, said in part.items() if isinstance(part, dict) else ():
            below: Iterable[object]
            if keyword == "properties" and isinstance(said, dict):
                if isinstance(value, dict):
                    yield from ((said[name], value[name]) for name in said.keys() & value.keys())
                continue
            if keyword == "$ref":
                below = (self._target(said, ""),)
            elif keyword in _SEVERAL and isinstance(said, list):
                below = said
            elif keyword in _NAMED - _UNUSED and isinstance(said, dict):
                below = said.values()
            elif keyword in _ONE:
                below = (said,)
            else:
                continue
            yield from product(below, (value,) if keyword in _ON_THE_SAME_VALUE else _within(value))

    def _length(self, part: object, at: str) -> int:
        if not isinstance(part, dict):
            return 1
        known = self._parts.get(id(part))
        if known is None:
            if id(part) in self._within:
                raise _refused(at, "circular_ref", "A schema must not contain itself; write out how deep data may nest")
            self._within.add(id(part))
            known = 1 + _PARTS_PER_PATTERN * _patterns(part)
            known += sum(self._length(below, where) for below, where in self._below(part, at))
            self._within.remove(id(part))
            self._parts[id(part)] = known
        return known

    def _below(self, part: dict[str, Any], at: str) -> Iterator[tuple[object, str]]:
        for keyword, value in part.items():
            where = _pointer(at, [keyword])
            if keyword in _ELSEWHERE:
                raise _refused(where, "bad_ref", "Use $ref with a place in this schema, such as #/$defs/address")
            if keyword == "$ref":
                yield self._target(value, where), where
            elif keyword in {"$id", "id"} and isinstance(value, str) and part is not self._root:
                raise _refused(where, "bad_id", f"Only the schema as a whole may have an {keyword}")
            elif keyword in _SEVERAL and isinstance(value, list):
                yield from ((below, _pointer(where, [nth])) for nth, below in enumerate(value))
            elif keyword in _NAMED and isinstance(value, dict):
                yield from ((below, _pointer(where, [name])) for name, below in value.items())
            elif keyword in _ONE:
                yield value, where

    def _target(self, reference: object, at: str) -> object:
        """Return what `#` or `#/…` refers to."""
        if not isinstance(reference, str) or (reference != "#" and not reference.startswith("#/")):
            detail = "A $ref must lead to a place in this schema, such as #/$defs/address; nothing is fetched"
            raise _refused(at, "remote_ref", detail)
        found: Any = self._root
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise _refused(at, "bad_ref", f"There is nothing at {reference[:100]} in this schema")
        return found


def _patterns(part: dict[str, Any]) -> int:
    by_name = part.get("patternProperties")
    return ("pattern" in part) + (len(by_name) if isinstance(by_name, dict) else 0)


def _within(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _said(error: jsonschema_rs.ValidationError) -> str:
    if error.message.endswith('is not a "regex"'):
        return "Is not a pattern that can be matched in linear time: no look-around, no back reference, no huge counts"
    if error.instance_path[-1:] == ["type"]:
        return "Must be null, boolean, object, array, number, integer or string, or a list of those"
    return f"Is no JSON Schema: {error.message[:_LONGEST_DETAIL]}"


def _pointer(start: str, path: Sequence[str | int]) -> str:
    return start + "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


def _refused(pointer: str, code: str, detail: str) -> ValidationFailedError:
    return ValidationFailedError(errors=(FieldError(pointer, code, detail),))

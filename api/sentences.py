"""Templates that are a sentence: text, and in it values of the data, through filters. Most are, and they are fast.

The library goes from node to node with a context for loops, assignments and templates within templates; for a sentence,
that takes three times as long as its filters do. So a sentence is filled in here, as long as nothing is the matter.
Where something is, the library fills it in, and says what is wrong, and where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.expressions.primitive import FloatLiteral, IntegerLiteral, StringLiteral
from liquid.builtin.output import OutputNode
from liquid.exceptions import LiquidError
from liquid.stringify import to_liquid_string

from api.template_filters import CHARACTERS_PER_STEP, is_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from liquid import RenderContext
    from liquid.ast import Node
    from liquid.builtin.expressions import Filter

_LITERALS = (StringLiteral, IntegerLiteral, FloatLiteral)
_WRONG = (LiquidError, ArithmeticError, LookupError, TypeError, ValueError)


class _Call(NamedTuple):
    """A filter, and its arguments, which are literals."""

    function: Callable[..., object]
    values: Sequence[object]
    forms: Mapping[str, object]


class _Value(NamedTuple):
    """Where a value is in the data, and what is done to it."""

    path: Sequence[str]
    calls: Sequence[_Call]


class Sentence:
    """Texts and values, in their order."""

    def __init__(self, parts: Sequence[str | _Value], *, html: bool) -> None:
        self._parts = parts
        self._html = html

    @classmethod
    def of(cls, nodes: Sequence[Node], context: RenderContext) -> Sentence | None:
        """Return the sentence that the nodes of a checked template are; None where they are more than one."""
        parts = []
        for node in nodes:
            part = node.text if isinstance(node, ContentNode) else _value(node, context)
            if part is None:
                return None
            parts.append(part)
        return cls(parts, html=context.autoescape)

    def fill_in(self, data: Mapping[str, object]) -> tuple[str, int] | None:
        """Return its text, and how much work its filters have done; None where the library has to do it."""
        texts: list[str] = []
        steps = 0
        try:
            for part in self._parts:
                if isinstance(part, str):
                    texts.append(part)
                    continue
                value = _found(data, part.path)
                for function, values, forms in part.calls:
                    value = function(value, *values, **forms)
                    if not is_bounded(value):
                        return None
                    steps += len(value) // CHARACTERS_PER_STEP if isinstance(value, str) else 0
                if isinstance(value, dict | list | tuple):
                    return None
                texts.append(to_liquid_string(value, self._html))
        except _WRONG:
            return None
        text = "".join(texts)
        return (text, steps) if "\r" not in text else None  # the library makes all line ends the same


def _found(data: Mapping[str, object], path: Sequence[str]) -> object:
    """Return what is there. Raises where nothing is, or where the library may know what is meant."""
    value: object = data
    for step in path:
        if not isinstance(value, dict):
            raise TypeError(step)
        value = value[step]
    return value


def _value(node: Node, context: RenderContext) -> _Value | None:
    expression = node.expression if isinstance(node, OutputNode) else None
    if not isinstance(expression, FilteredExpression) or not isinstance(expression.left, Path):
        return None
    path = [step for step in expression.left.path if isinstance(step, str)]
    filters = expression.filters or []
    literal = all(isinstance(each.value, _LITERALS) for used in filters for each in used.args)
    if len(path) < len(expression.left.path) or not literal:
        return None
    return _Value(path, [_call(used, context) for used in filters])


def _call(used: Filter, context: RenderContext) -> _Call:
    return _Call(context.env.filters[used.name], *used.evaluate_args(context))

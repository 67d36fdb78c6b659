"""Templates of titles and bodies: Liquid, with no way out of the data that they are filled in from.

There are a few tags, no includes, no ranges, and the filters of `api.template_filters`; names are looked up in JSON,
and never in Python's objects. Loops run over lists of the data, and all templates that are filled in for one
notification share a `Filling`, which has so much work to give, so that no data makes them run for longer than a moment.

Where a template has markup in it, a client is going to show it as HTML: what is filled in is then escaped.
"""

from __future__ import annotations

import re
from functools import lru_cache
from io import StringIO
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from babel import Locale, UnknownLocaleError
from liquid import Environment, FalsyStrictUndefined, RenderContext
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.tags import assign_tag, case_tag, comment_tag, for_tag, if_tag, inline_comment_tag, unless_tag
from liquid.exceptions import (
    LiquidError,
    LiquidInterrupt,
    LiquidSyntaxError,
    OutputStreamLimitError,
    ResourceLimitError,
    UndefinedError,
)
from liquid.stringify import to_liquid_string
from liquid.utils import ReadOnlyChainMap

from api.sentences import Sentence
from api.template_filters import CHARACTERS_PER_STEP, filters, is_bounded, plural_categories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from liquid.ast import Node
    from liquid.builtin.expressions.filtered import Filter
    from liquid.expression import Expression
    from liquid.template import BoundTemplate
    from liquid.token import Token


class _OutputNode(output.OutputNode):
    """Writes a text or a number; Python's notation of lists and objects is for nobody to read."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        value = self.expression.evaluate(context)
        if isinstance(value, dict | list | tuple):
            _refuse(f"{self.expression} is a list or an object; name a value in it, or use join", self.token)
        return buffer.write(to_liquid_string(value, context.autoescape))


class _Output(output.Output):
    node_class = _OutputNode


_TAGS = (
    content.Literal,
    _Output,
    illegal.Illegal,
    assign_tag.AssignTag,
    case_tag.CaseTag,
    comment_tag.CommentTag,
    inline_comment_tag.InlineCommentTag,
    for_tag.ForTag,
    for_tag.BreakTag,
    for_tag.ContinueTag,
    if_tag.IfTag,
    unless_tag.UnlessTag,
)
_MARKUP = re.compile(r"<[a-zA-Z/!]|&(?:[a-zA-Z]+|#[0-9]+|#[xX][0-9a-fA-F]+);")  # a tag, or an entity
_MOST_WORK = 250_000  # characters of templates to work through, again in each round of a loop: some 0.1 s
_TOO_LONG = "it becomes longer than {} characters on this data; use truncate"
_MOST_ENVIRONMENTS = 1_000


class TemplateError(Exception):
    """A template cannot be used, or cannot be filled in from this data. The text is for whoever wrote it."""


class Filling(RenderContext):
    """What the templates of one notification are filled in from, and how much work may still be done for it.

    Names are looked up in the data alone: there is no clock, and there are no counters.
    """

    def __init__(self, data: Mapping[str, Any], work: int = _MOST_WORK) -> None:
        # The library's own takes four times as long, for tags and for templates within templates, which do not exist
        # here. Nothing in it refers back to it, or only the garbage collector would be rid of it.
        self.globals = data
        self.locals = {}
        self.counters = {}
        self.scope = ReadOnlyChainMap(self.locals, data)
        self.tag_namespace = {"stopindex": {}}
        self.loops = []
        self.disabled_tags = []
        self.parent_context = None
        self._copy_depth = 0
        self.loop_iteration_carry = 1
        self.local_namespace_size_carry = 0
        self._left = work
        self._length = 0

    def begin(self, template: BoundTemplate, length: int) -> None:
        """Go on with a template of so many characters; the one before it is done. Raise where no work may be done."""
        self.template = template
        self.env = template.env
        self.autoescape = template.env.autoescape
        self.locals.clear()
        self.tag_namespace["stopindex"].clear()
        self._length = length
        self.spend(length)

    def spend(self, work: int) -> None:
        """Raise where it is used up."""
        self._left -= work
        if self._left < 0:
            msg = "it is too much work on this data; let its loops run over less, or shorten it"
            raise ResourceLimitError(msg, token=None)

    def raise_for_loop_limit(self, length: int = 1) -> None:
        """Count what a loop does."""
        self.spend(length * self._length)

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        """Return a filter whose arguments are there, and whose result is bounded."""
        function = self.env.filters[name]  # `_check` saw that there is one

        def bounded(value: object, *args: object, **forms: object) -> object:
            if name != "default":
                for each in (value, *args, *forms.values()):
                    if type(each) is FalsyStrictUndefined:  # `isinstance` of an abstract class takes ten times as long
                        raise UndefinedError(each.msg, token=token)
            try:
                result = function(value, *args, **forms)
            except TypeError as error:
                msg = f"{name} does not take these arguments"
                raise LiquidError(msg, token=token) from error
            if isinstance(result, str):
                self.spend(len(result) // CHARACTERS_PER_STEP)
            if not is_bounded(result):
                msg = f"the result of {name} is too large"
                raise ResourceLimitError(msg, token=token)
            return result

        return bounded


class Template:
    """A template that is ready to be filled in."""

    def __init__(self, source: str, locale: str, *, html: bool) -> None:
        """Raise `TemplateError` where it is not one."""
        self._length = len(source)
        try:
            self._parsed = _environment(locale, html=html).from_string(source)
            _check(self._parsed, plural_categories(Locale.parse(locale, sep="-")))
            self._sentence = Sentence.of(self._parsed.nodes, RenderContext(self._parsed))
            only_text = all(isinstance(node, content.ContentNode) for node in self._parsed.nodes)
            self._text = self._parsed.render().strip() if only_text else None  # for any data the same
        except (LiquidError, RecursionError) as error:
            if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
                msg = "it nests too deep"
                raise TemplateError(msg) from error
            raise TemplateError(_said(error)) from error

    def fill_in(self, filling: Filling, most: int) -> str:
        """Return its text of at most `most` characters. Raises `TemplateError`."""
        if self._text is not None and len(self._text) <= most:
            return self._text
        try:
            text = self._sentence_from(filling)
            if text is None:
                text = self._written_from(filling, most)
        except OutputStreamLimitError as error:
            raise TemplateError(_TOO_LONG.format(most)) from error
        except LiquidError as error:
            raise TemplateError(_said(error)) from error
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            msg = f"it cannot work with this data: {error}"
            raise TemplateError(msg) from error
        text = text.strip()
        if len(text) > most:
            raise TemplateError(_TOO_LONG.format(most))
        return text

    def _sentence_from(self, filling: Filling) -> str | None:
        """Return its text, as the library would; None where that has to do it."""
        said = self._sentence.fill_in(filling.globals) if self._sentence is not None else None
        if said is None:
            return None
        text, steps = said
        filling.spend(self._length + steps)
        return text

    def _written_from(self, filling: Filling, most: int) -> str:
        """Do what the library's `render_with_context` does, without what only includes need: it runs so often."""
        filling.begin(self._parsed, self._length)
        buffer = _Buffer(4 * most)
        for node in self._parsed.nodes:
            try:
                node.render(filling, buffer)
            except LiquidInterrupt as stop:
                msg = f"unexpected '{stop}'"
                raise LiquidSyntaxError(msg, token=node.token) from stop
            except LiquidError as error:
                error.token = error.token or node.token
                raise
        return buffer.getvalue()


def has_markup(source: str) -> bool:
    """Say whether a template is going to be shown as HTML."""
    return bool(_MARKUP.search(source))


def require_known(locale: str) -> None:
    """Raise `TemplateError` where Unicode's CLDR does not know a canonical language tag."""
    try:
        Locale.parse(locale, sep="-")
    except (UnknownLocaleError, ValueError) as error:
        msg = f"{locale} is not a locale that Unicode's CLDR knows; use one such as uk or pt-BR"
        raise TemplateError(msg) from error


class _Environment(Environment):
    """Knows our tags and filters, and no others. Has no loader, so that there is nothing to include."""

    def __init__(self, locale: Locale, *, html: bool) -> None:
        self._locale = locale
        super().__init__(undefined=FalsyStrictUndefined, autoescape=html)

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:  # noqa: ARG002  # there are none
        for tag in _TAGS:
            self.add_tag(tag)
        for name, function in filters(self._locale).items():
            self.add_filter(name, function)


@lru_cache(_MOST_ENVIRONMENTS)
def _environment(locale: str, *, html: bool) -> _Environment:
    return _Environment(Locale.parse(locale, sep="-"), html=html)


class _Buffer(StringIO):
    """Holds so many characters."""

    def __init__(self, most: int) -> None:
        super().__init__(newline=None)
        self._left = most

    def write(self, text: str) -> int:
        self._left -= len(text)
        if self._left < 0:
            msg = "the text is too long"
            raise OutputStreamLimitError(msg, token=None)
        return super().write(text)


def _check(template: BoundTemplate, categories: frozenset[str]) -> None:
    """Raise `LiquidError` for what would fail on any data, or must not be."""
    nodes: list[Node] = list(template.nodes)
    context = RenderContext(template)
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children(context))
        _check_expressions(node.expressions(), template, categories)


def _check_expressions(expressions: Iterable[Expression], template: BoundTemplate, categories: frozenset[str]) -> None:
    waiting = list(expressions)
    while waiting:
        expression = waiting.pop()
        waiting.extend(expression.children())
        if isinstance(expression, RangeLiteral):
            _refuse("there are no ranges; loop over a list of the data", expression.token)
        if isinstance(expression, Path) and any(isinstance(step, str) and step[:2] == "__" for step in expression.path):
            _refuse(f"{expression} is no name of a value in the data", expression.token)
        if isinstance(expression, FilteredExpression):
            for each in expression.filters or ():
                _check_filter(each, template, categories)


def _check_filter(used: Filter, template: BoundTemplate, categories: frozenset[str]) -> None:
    if used.name not in template.env.filters:
        _refuse(f"there is no filter {used.name}; there are {', '.join(sorted(template.env.filters))}", used.token)
    if used.name == "plural":
        forms = {getattr(each, "name", None) for each in used.args}
        if "other" not in forms or not forms <= categories:
            known = ", ".join(sorted(categories))
            _refuse(f"plural takes a form for other, and in this locale for any of {known}", used.token)


def _refuse(message: str, token: Token) -> NoReturn:
    raise LiquidError(message, token=token)


def _said(error: LiquidError) -> str:
    """Return what is wrong, and where."""
    where = error.context()
    message = f"{error.message}"
    if message.startswith("unexpected tag"):
        message += "; there are assign, case, comment, for, if and unless, with what belongs to them"
    return f"{message} (line {where[0]}, column {where[1] + 1})" if where else message

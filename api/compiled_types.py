"""A type of the catalogue, ready to be used: its schema and templates compiled, whatever is wrong with them refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.data_schemas import DataSchema
from api.templates import Filling, Template, TemplateError, has_markup, require_known
from models.errors import FieldError, ValidationFailedError
from models.fields import MAX_BODY, MAX_DIGEST_KEY, MAX_TITLE
from models.locales import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.contracts import DigestIn, TypeIn
    from models.states import Priority

_FALL_BACK = "en"
_LIQUID = ("{{", "{%")


@dataclass(frozen=True, slots=True)
class CompiledDigest:
    """How what is not urgent is gathered."""

    every: str
    key: Template

    @classmethod
    def of(cls, body: DigestIn) -> CompiledDigest:
        """Compile it. Raises `ValidationFailedError`."""
        if len(body.key) > MAX_DIGEST_KEY and not any(mark in body.key for mark in _LIQUID):
            detail = (
                f"Must have {MAX_DIGEST_KEY} characters at most; it has {len(body.key)}, and is the same on any data"
            )
            raise ValidationFailedError(errors=(FieldError("/digest/key", "too_long", detail),))
        try:
            return cls(body.every, Template(body.key, _FALL_BACK, html=False))
        except TemplateError as error:
            wrong = FieldError("/digest/key", "bad_template", f"It is not a template: {error}")
            raise ValidationFailedError(errors=(wrong,)) from error

    def key_for(self, values: Mapping[str, Any]) -> str:
        """Return the key of a notification with these values. Raises `ValidationFailedError`."""
        try:
            return self.key.fill_in(Filling(values), MAX_DIGEST_KEY)
        except TemplateError as error:
            detail = f"The key of the type's digest cannot be filled in: {error}"
            raise ValidationFailedError(errors=(FieldError("/data", "template_failed", detail),)) from error


@dataclass(frozen=True, slots=True)
class CompiledType:
    """One version of a type."""

    version: int
    priority: Priority
    ttl_s: int | None
    mutable: bool
    critical_overrides: bool
    schema: DataSchema | None
    templates: Mapping[str, tuple[Template, Template]]  # title and body, by canonical locale
    digest: CompiledDigest | None

    @classmethod
    def of(cls, version: int, body: TypeIn) -> CompiledType:
        """Compile it. Raises `ValidationFailedError` with a pointer for each template, or place in the schema."""
        schema = DataSchema(body.schema_) if body.schema_ is not None else None
        digest = CompiledDigest.of(body.digest) if body.digest is not None else None
        return cls(
            version,
            body.priority,
            body.ttl_s,
            body.mutable,
            body.critical_overrides,
            schema,
            _templates(body),
            digest,
        )

    @property
    def fall_back(self) -> str:
        """The locale for those who have none of the others: `en`, or the first."""
        return _FALL_BACK if _FALL_BACK in self.templates else next(iter(self.templates))

    def wordings(self, title: str | None, body: str | None, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """Return title and body by locale, filled in from `values`; a `title` or `body` that is given stays as it is.

        Raises `ValidationFailedError` that names the template and the locale.
        """
        filling = Filling(values)
        texts = {}
        for locale, (for_title, for_body) in self.templates.items():
            part = "title"
            try:
                said = title if title is not None else for_title.fill_in(filling, MAX_TITLE)
                part = "body"
                told = body if body is not None else for_body.fill_in(filling, MAX_BODY)
            except TemplateError as error:
                raise _failed(part, locale, str(error)) from error
            if not said:
                raise _failed("title", locale, "it becomes empty on this data")
            texts[locale] = {"title": said, "body": told}
        return texts


def _failed(part: str, locale: str, detail: str) -> ValidationFailedError:
    wrong = FieldError("/data", "template_failed", f"The {part} template for {locale} cannot be filled in: {detail}")
    return ValidationFailedError(errors=(wrong,))


def _templates(body: TypeIn) -> dict[str, tuple[Template, Template]]:
    """Compile all templates. A part that has markup in one locale is HTML in each: clients show it the same way."""
    html = {
        part: any(has_markup(getattr(each, part)) for each in body.templates.values()) for part in ("title", "body")
    }
    compiled: dict[str, tuple[Template, Template]] = {}
    errors = []
    for tag, each in body.templates.items():
        locale, pointer = canonical(tag), f"/templates/{tag}"
        try:
            require_known(locale)
        except TemplateError as error:
            errors.append(FieldError(pointer, "unknown_locale", str(error)))
            continue
        if locale in compiled:
            errors.append(FieldError(pointer, "same_locale", f"There are two templates for {locale}; keep one"))
            continue
        parts = []
        for part in ("title", "body"):
            try:
                parts.append(Template(getattr(each, part), locale, html=html[part]))
            except TemplateError as error:
                errors.append(FieldError(f"{pointer}/{part}", "bad_template", f"It is not a template: {error}"))
        if len(parts) == len(html):
            compiled[locale] = (parts[0], parts[1])
    if errors:
        raise ValidationFailedError(errors=tuple(errors))
    return compiled

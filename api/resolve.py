"""What a notification becomes, from what its sender said and what its type says. Pure: no catalogue, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from models.errors import FieldError, ValidationFailedError
from models.states import Priority

if TYPE_CHECKING:
    from datetime import datetime

    from api.compiled_types import CompiledType
    from models.contracts import NotificationIn


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the type decides. `texts` is by locale; None where everybody is told `title` and `body`."""

    priority: Priority
    title: str
    body: str
    expires_at: datetime | None
    mutable: bool = True
    critical_overrides: bool = True
    texts: dict[str, dict[str, str]] | None = None
    digest_every: str | None = None
    digest_key: str | None = None


def resolve(said: NotificationIn, kind: CompiledType | None, now: datetime, *, require_type: bool = False) -> Resolved:
    """Resolve a notification whose type is `kind`, or is not registered. Raises `ValidationFailedError`."""
    if kind is None:
        if require_type:
            detail = f"There is no type {said.type} in the catalogue; register it with PUT /v1/types/{said.type}"
            raise _refused("/type", "unknown_type", detail)
        return Resolved(said.priority or Priority.NORMAL, _title(said), said.body or "", said.expires_at)
    if kind.schema is not None:
        kind.schema.require_valid(said.data)
    priority = said.priority or kind.priority
    expires_at = said.expires_at or _expiry(said.deliver_at, kind.ttl_s, now)
    values = {"actor": said.actor.model_dump() if said.actor else None, **said.data}
    rules = (kind.mutable, kind.critical_overrides)
    digest = _digest(kind, priority, values)
    if not kind.templates or (said.title is not None and said.body is not None):
        return Resolved(priority, _title(said), said.body or "", expires_at, *rules, None, *digest)
    texts = kind.wordings(said.title, said.body, values)
    everybody = texts[kind.fall_back]
    told = texts if len(texts) > 1 else None
    return Resolved(priority, everybody["title"], everybody["body"], expires_at, *rules, told, *digest)


def _digest(kind: CompiledType, priority: Priority, values: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return when and by which key it is gathered; nothing where it is urgent, or its type says nothing of that."""
    if kind.digest is None or priority in {Priority.CRITICAL, Priority.HIGH}:
        return None, None
    return kind.digest.every, kind.digest.key_for(values)


def _title(said: NotificationIn) -> str:
    if said.title is None:
        raise _refused("/title", "missing", "Must be given: the type has no templates to make a title from")
    return said.title


def _expiry(deliver_at: datetime | None, ttl_s: int | None, now: datetime) -> datetime | None:
    return max(deliver_at or now, now) + timedelta(seconds=ttl_s) if ttl_s is not None else None


def _refused(pointer: str, code: str, detail: str) -> ValidationFailedError:
    return ValidationFailedError(errors=(FieldError(pointer, code, detail),))

"""The types that the proof registers, what each of them says in each language, and who reads which language.

Invariant: what a notification says is a function of its poster, its number and a locale; the engine has to come to the
same by its templates.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from models.states import Priority
from ops.prove.ledger import BRIEF, GATHERED, MUTED, WORDED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ops.prove.calls import Caller
    from ops.prove.ledger import Ledger, Posted

THREADS = 3  # keys of the digests
TTL_S = 2
_DONE = 200
_MUTING = 8  # one user in so many wants nothing of one domain
# One user after another: the same, a region of it, a language without a template, and none at all.
_LOCALES = ("uk", "uk-UA", "de", None, "en-GB")
_TEMPLATES = {
    "en": {"title": "{{ nth }} from {{ poster }}", "body": "In thread {{ thread }}."},
    "uk": {"title": "{{ nth }} від {{ poster }}", "body": "Гілка {{ thread }}."},
}
TYPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        WORDED: {"templates": _TEMPLATES},
        BRIEF: {
            "priority": Priority.LOW,  # none of its notifications names one
            "ttl_s": TTL_S,
            "schema": {
                "type": "object",
                "required": ["poster", "nth"],
                "properties": {"nth": {"type": "integer", "minimum": 1}},
            },
        },
        GATHERED: {"templates": _TEMPLATES, "digest": {"every": "* * * * *", "key": "{{ thread }}"}},
    }
)


def thread_of(posted: Posted) -> int:
    """Return which thread it belongs to."""
    return posted.nth % THREADS


def text_of(posted: Posted, locale: str | None) -> tuple[str, str]:
    """Return title and body of a worded notification, for who reads `locale`."""
    thread = thread_of(posted)
    if reads(locale) == "uk":
        return f"{posted.nth} від {posted.poster}", f"Гілка {thread}."
    return f"{posted.nth} from {posted.poster}", f"In thread {thread}."


def reads(locale: str | None) -> str | None:
    """Return which of the templates' locales is meant; None where it is none of them."""
    language = locale.partition("-")[0] if locale else ""
    return language if language in _TEMPLATES else None


async def register(caller: Caller, ledger: Ledger, headers: dict[str, str]) -> None:
    """Put all types into the catalogue."""
    for name, body in TYPES.items():
        answer = await caller.until_answered(
            "PUT", f"/v1/types/{name}", statuses=ledger.statuses, headers=headers, body=body
        )
        answer.expect(_DONE, what=f"the type {name}")


async def prefer(caller: Caller, ledger: Ledger, users: Sequence[str], headers: dict[str, str]) -> None:
    """Let users say which language they read, and some of them that they want nothing of one domain."""
    for number, user in enumerate(users):
        muting, locale = number % _MUTING == 0, _LOCALES[number % len(_LOCALES)]
        body = {"mutes": {"domains": [MUTED] if muting else []}, "locale": locale}
        answer = await caller.until_answered(
            "PUT", f"/v1/users/{user}/preferences", statuses=ledger.statuses, headers=headers, body=body
        )
        answer.expect(_DONE, what=f"the preferences of {user}")
        if locale is not None:
            ledger.locales[user] = locale
    ledger.muting = frozenset(users[::_MUTING])

"""Whether everybody was told in the language that they read what the templates say. Pure.

The database is asked about all deliveries, those that were deleted, too; the devices about what they show.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ops.prove.alarm import ViolationError
from ops.prove.catalogue import TTL_S, reads, text_of
from ops.prove.ledger import BRIEF, GATHERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ops.prove.device import Device
    from ops.prove.ledger import Ledger, Posted
    from ops.prove.truth import Truth

_LATENESS = timedelta(seconds=15)  # from when the API fills an end in, to when Postgres dates the row


def everything(ledger: Ledger, truth: Truth) -> None:
    """Check all that types decide: texts, and ends."""
    each_was_told_in_their_language(ledger, truth)
    each_ends_when_its_type_says(ledger, truth)


def each_was_told_in_their_language(ledger: Ledger, truth: Truth) -> None:
    """Check the text of each delivery and of each entry of a digest; a digest says what its newest entry says."""
    newest = {digest.arrived: digest.ids[-1] for digest in truth.digests if digest.ids}
    for delivery in truth.deliveries:
        posted = ledger.accepted.get(newest.get(delivery.id, delivery.id))
        if posted is None or not posted.is_worded:
            continue
        told = truth.notifications[delivery.id].said.get(delivery.locale)
        _expect(posted, ledger.locales.get(delivery.user), told, f"{delivery.user} was told of {delivery.id}")
    for digest in truth.digests:
        for item in digest.items:
            what = f"digest {digest.id} tells {digest.user} of {item['id']}"
            _expect(ledger.accepted[item["id"]], ledger.locales.get(digest.user), _text(item), what)


def devices_show_it(devices: Iterable[Device], ledger: Ledger) -> None:
    """Check the texts of what devices hold, those in digests among them."""
    for device in devices:
        locale = ledger.locales.get(device.user)
        for item in device.replica.items.values():
            posted = ledger.accepted.get(item["id"])
            shown = [item] if posted is not None and posted.is_worded else []
            if posted is None and item["type"] == GATHERED:
                shown = item["data"]["items"]
            for each in shown:
                what = f"a device of {device.user} shows {each['id']}"
                _expect(ledger.accepted[each["id"]], locale, _text(each), what)


def told_by_template(ledger: Ledger, truth: Truth) -> int:
    """Return how many deliveries and entries were in a language that their user asked for."""
    deliveries = sum(delivery.locale is not None for delivery in truth.deliveries)
    return deliveries + sum(
        len(digest.items) for digest in truth.digests if reads(ledger.locales.get(digest.user)) is not None
    )


def each_ends_when_its_type_says(ledger: Ledger, truth: Truth) -> None:
    """Check that a time to live was counted from when it was to be delivered, or was accepted."""
    for key, posted in ledger.accepted.items():
        row = truth.notifications[key]
        if posted.registered != BRIEF or row.created_at is None:
            continue
        wanted = max(row.deliver_at or row.created_at, row.created_at) + timedelta(seconds=TTL_S)
        if row.expires_at is None or not wanted - _LATENESS <= row.expires_at <= wanted:
            msg = f"notification {key} expires at {row.expires_at}; its type says at {wanted}"
            raise ViolationError(msg)


def _text(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["title"], item["body"]


def _expect(posted: Posted, locale: str | None, told: tuple[str, str] | None, what: str) -> None:
    if told != (wanted := text_of(posted, locale)):
        msg = f"{what} as {told}, who reads {locale or 'no language'}: {wanted}"
        raise ViolationError(msg)

"""Bookings: a place is booked, perhaps given back, and otherwise the guest is reminded of it before it begins.

Everybody who looks at a place's calendar is in its room and sees hours taken and freed. The reminder is posted early
with `deliver_at`: the domain needs no timer of its own, Bellhop keeps it until its time.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from ops.demo.story import Notify, Say, Scene, Step, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.demo.cast import Person

_PLACES = {
    "court": ("the tennis court", "тенісний корт"),
    "sauna": ("the lake sauna", "сауна біля озера"),
    "studio": ("the pottery studio", "гончарна студія"),
}
_HOURS = range(9, 21)
_DESK = {"id": "booking", "name": "Harbour Sports"}
_REMIND_AFTER = timedelta(seconds=2)  # so that one sees it come; in life, an hour before the place is needed


def produce(scene: Scene) -> Iterator[Step]:
    """Let guests book places, of which there are few."""
    taken: set[tuple[str, int]] = set()
    return scene.tell((_booking(scene, number, taken) for number in count(1)), at_once=4, every_s=1.1)


def _booking(scene: Scene, number: int, taken: set[tuple[str, int]]) -> Story:
    free = [(place, hour) for place in _PLACES for hour in _HOURS if (place, hour) not in taken]
    if not free:
        return
    place, hour = scene.random.choice(free)
    guest = scene.someone()
    taken.add((place, hour))
    booked = _about(guest, place, hour, "Booked", uk="Заброньовано")
    yield [_slot(place, hour, "taken"), _tell(guest, number, "slot.booked", booked)]

    if scene.perhaps(0.25):
        taken.discard((place, hour))
        given_back = _about(guest, place, hour, "Given back", uk="Скасовано")
        yield [_slot(place, hour, "freed"), _tell(guest, number, "slot.returned", given_back)]
        other = scene.someone(guest)
        # It goes to whoever is first, and so it is worth an interruption.
        free_again = _about(other, place, hour, "Free again", uk="Знову вільно")
        yield [_tell(other, number, "slot.freed", free_again, priority="high")]
        return
    if scene.perhaps(0.15):
        taken.discard((place, hour))
        closed = _about(guest, place, hour, "Closed, we are sorry", uk="Зачинено, вибачте")
        yield [
            _slot(place, hour, "freed"),
            _tell(guest, number, "place.closed", closed, priority="critical", body="You need not come."),
        ]
        return

    # From here on it can no longer be given back, so that nobody is reminded of what is cancelled.
    remind_at = (scene.now() + _REMIND_AFTER).isoformat()
    soon = _about(guest, place, hour, "In an hour", uk="Через годину")
    yield [_tell(guest, number, "slot.near", soon, priority="high", deliver_at=remind_at)]
    yield [_slot(place, hour, "begun")]
    taken.discard((place, hour))
    how_was_it = _about(guest, place, hour, "How was it", uk="Чи сподобалось")
    yield [_slot(place, hour, "freed"), _tell(guest, number, "review.requested", how_was_it, priority="low")]


def _about(guest: Person, place: str, hour: int, what: str, *, uk: str) -> str:
    english, ukrainian = _PLACES[place]
    return guest.reads(f"{what}: {english} at {hour}:00", uk=f"{uk}: {ukrainian}, {hour}:00")


def _slot(place: str, hour: int, state: str) -> Say:
    return Say(f"booking:place:{place}", f"slot.{state}", {"hour": hour})


def _tell(guest: Person, number: int, what: str, title: str, **more: Any) -> Notify:  # noqa: ANN401  # JSON is anything
    return Notify(
        {
            "to": {"user": guest.id},
            "type": f"booking.{what}",
            "title": title,
            "data": {"booking": number},
            "action_url": f"/bookings/{number}",
            "actor": _DESK,
            **more,
        }
    )

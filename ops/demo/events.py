"""Events: seats go one by one, a waiting list moves up, and programmes change at the last minute.

The event's page is in its room and counts the seats that are left. Guests are told what concerns their evening, at
once where it falls through; the host is told when it is sold out.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from ops.demo.story import Notify, Say, Scene, Step, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.demo.cast import Person

_EVENTS = ("An evening of short films", "Bread for beginners", "Stars through a telescope", "A walk along the old wall")


def produce(scene: Scene) -> Iterator[Step]:
    """Hold two events side by side."""
    return scene.tell((_event(scene, number) for number in count(1)), at_once=2, every_s=1.25)


def _event(scene: Scene, number: int) -> Story:
    title, seats = _EVENTS[number % len(_EVENTS)], scene.random.randint(3, 5)
    host, *people = scene.some(seats + 3)
    event = _Event(number, title, host)
    yield [
        event.say("event.announced", seats_left=seats),
        event.tell(people, "event.announced", f"New: {title}", priority="low"),
    ]
    going = people[:seats]
    for left, guest in zip(range(seats - 1, -1, -1), going, strict=True):
        yield [
            event.say("seats.changed", seats_left=left),
            event.tell([guest], "seat.taken", guest.reads(f"You are in: {title}", uk=f"Місце ваше: «{title}»")),
        ]
    yield [event.tell([host], "seats.gone", f"Sold out: {title}", priority="high")]
    waiting = people[seats]
    yield [event.tell([waiting], "waitlist.joined", f"You are first on the waiting list: {title}", priority="low")]

    if scene.perhaps(0.6):
        going = [*going[1:], waiting]
        yield [
            event.say("seats.changed", seats_left=1),
            event.tell([people[0]], "seat.returned", f"Your seat was given back: {title}"),
        ]
        moved_up = waiting.reads(f"A seat for you after all: {title}", uk=f"Для вас є місце: «{title}»")
        yield [
            event.say("seats.changed", seats_left=0),
            event.tell([waiting], "waitlist.moved", moved_up, priority="high"),
        ]
    if scene.perhaps(0.5):
        hour = scene.random.randint(19, 21)
        yield [
            event.say("schedule.changed", begins=f"{hour}:30"),
            event.tell(going, "schedule.changed", f"Now at {hour}:30: {title}", priority="high"),
        ]
    if scene.perhaps(0.2):
        yield [
            event.say("event.cancelled"),
            event.tell(going, "event.cancelled", f"Not tonight: {title}", priority="critical", body="We are sorry."),
        ]
        return
    yield [event.say("doors.opened"), event.tell(going, "doors.opened", f"The doors are open: {title}")]


class _Event:
    """One event, and how it is spoken of."""

    def __init__(self, number: int, title: str, host: Person) -> None:
        self._number, self._title, self._host = number, title, host

    def say(self, what: str, **more: int | str) -> Say:
        return Say(f"events:event:{self._number}", what, {"event": self._number, **more})

    def tell(self, whom: list[Person], what: str, title: str, **more: Any) -> Notify:  # noqa: ANN401  # JSON is anything
        return Notify(
            {
                "to": {"users": [person.id for person in whom]},
                "type": f"events.{what}",
                "title": title,
                "data": {"event": self._number},
                "action_url": f"/events/{self._number}",
                "actor": self._host.actor,
                **more,
            }
        )

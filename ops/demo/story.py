"""What a producer is made of: steps, the stories that they tell, and the scene in which a story takes place.

A producer is pure. It gets a `Scene` and yields steps without end; the same seed gives the same steps. A step is what
one call of the REST API takes, and how long to wait after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ops.demo.cast import CAST, Person

if TYPE_CHECKING:
    import random
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Notify:
    """Tells somebody something: `body` is what `POST /v1/notifications` takes."""

    body: dict[str, Any]
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Say:
    """Says in a room what happened to its entity: what `POST /v1/rooms/{room}/events` takes."""

    room: str
    event: str
    data: dict[str, Any]
    wait_s: float = 0.0


Step = Notify | Say
Moment = Sequence[Step]  # one thing happened, and this is all that has to be told of it
Story = Iterator[Moment]


class Scene:
    """All that a producer may know of the world: chance, the time, and who there is."""

    def __init__(self, random: random.Random, now: Callable[[], datetime]) -> None:
        self.random = random
        self.now = now

    def someone(self, *but: Person) -> Person:
        """Return somebody, but none of these."""
        return self.some(1, *but)[0]

    def some(self, how_many: int, *but: Person) -> list[Person]:
        """Return that many different people, but none of these."""
        return self.random.sample([person for person in CAST if person not in but], how_many)

    def perhaps(self, share: float) -> bool:
        """Say yes in this share of all cases."""
        return self.random.random() < share

    def tell(self, stories: Iterator[Story], *, at_once: int, every_s: float) -> Iterator[Step]:
        """Tell stories without end: `at_once` of them side by side, with something happening every `every_s` or so.

        The moments of one story stay in order, and the steps of one moment together.
        """
        going_on = [next(stories) for _ in range(at_once)]
        while True:
            which = self.random.randrange(at_once)
            moment = next(going_on[which], None)
            if moment is None:
                going_on[which] = next(stories)
                continue
            *first, last = moment
            yield from first
            yield replace(last, wait_s=round(every_s * self.random.uniform(0.5, 1.5), 3))


Producer = Callable[[Scene], Iterator[Step]]

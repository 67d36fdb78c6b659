"""A task board: cards move from column to column, go back, get stuck, and are done.

Whoever looks at the board is in its room and sees each card move. A notification goes to the one person who has to do
something next; only a release that stands still is everybody's concern at once.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from ops.demo.cast import KENJI, MIA, OLENA, SOFIA, TARAS
from ops.demo.story import Notify, Say, Scene, Step, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.demo.cast import Person

_BOARD = "tasks:board:1"
_TEAM = (OLENA, TARAS, MIA, KENJI, SOFIA)
_VERBS = ("Draw", "Write", "Test", "Simplify", "Translate")
_THINGS = ("the sign-up page", "the price list", "the search", "the welcome letter", "the export")


def produce(scene: Scene) -> Iterator[Step]:
    """Let a team of five work on several cards."""
    return scene.tell((_card(scene, number) for number in count(1)), at_once=5, every_s=1.2)


def _card(scene: Scene, number: int) -> Story:
    author, owner = scene.random.sample(_TEAM, 2)
    reviewer = scene.random.choice([person for person in _TEAM if person is not owner])
    name = f"{scene.random.choice(_VERBS)} {scene.random.choice(_THINGS)}"
    for_you = owner.reads(f"{author.first_name} gave you “{name}”", uk=f"{author.first_name}: нова картка «{name}»")
    yield [
        Say(_BOARD, "card.created", {"card": number, "name": name, "column": "to do", "owner": owner.id}),
        _tell(owner, number, "card.assigned", for_you, author),
    ]
    yield [_move(number, "to do", "doing")]
    if scene.perhaps(0.15):
        yield [
            Say(_BOARD, "card.blocked", {"card": number}),
            _tell(_TEAM, number, "release.blocked", f"The release waits for “{name}”", owner, priority="critical"),
        ]
        yield [Say(_BOARD, "card.unblocked", {"card": number})]
    review = f"{owner.first_name} asks for your review: {name}"
    yield [
        _move(number, "doing", "review"),
        _tell(reviewer, number, "review.requested", review, owner, priority="high"),
    ]
    while scene.perhaps(0.3):
        yield [
            _move(number, "review", "doing"),
            _tell(owner, number, "review.rejected", f"Not yet: {name}", reviewer, body="Two small things are left."),
        ]
        yield [_move(number, "doing", "review")]
    yield [
        _move(number, "review", "done"),
        # Nice to know, and many of them: one per author in the list is enough.
        _tell(author, number, "card.done", f"Done: {name}", owner, priority="low", collapse_key="cards-done"),
    ]


def _move(number: int, before: str, after: str) -> Say:
    return Say(_BOARD, "card.moved", {"card": number, "from": before, "to": after})


def _tell(whom: Person | tuple[Person, ...], number: int, what: str, title: str, actor: Person, **more: Any) -> Notify:  # noqa: ANN401  # JSON is anything
    to = {"users": [person.id for person in whom]} if isinstance(whom, tuple) else {"user": whom.id}
    return Notify(
        {
            "to": to,
            "type": f"tasks.{what}",
            "title": title,
            "data": {"board": 1, "card": number},
            "action_url": f"/boards/1/cards/{number}",
            "actor": actor.actor,
            **more,
        }
    )

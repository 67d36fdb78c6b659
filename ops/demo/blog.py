"""A blog: posts, and comments that wait in a queue until a moderator lets them through.

Readers of a post are in its room, moderators in the room of the queue. That something waits is told to moderators under
one `collapse_key`: only the newest count matters to them.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from ops.demo.cast import AISHA, EMMA, NOAH, TARAS
from ops.demo.story import Notify, Say, Scene, Step, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.demo.cast import Person

_QUEUE = "blog:moderation"
_MODERATORS = (TARAS, EMMA)
_AUTHORS = (AISHA, NOAH)
_POSTS = ("On keeping bees in town", "A bicycle in winter", "What the baker taught me", "Notes from the night train")
_LONG_QUEUE = 2


def produce(scene: Scene) -> Iterator[Step]:
    """Publish posts, and let people comment on the newest."""
    return _Blog(scene).told()


class _Blog:
    """What all its stories share: the newest post, and which comments wait."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._post, self._author = 0, _AUTHORS[0]
        self._comments = count(1)
        self._waiting: list[int] = []

    def told(self) -> Iterator[Step]:
        return self._scene.tell(self._stories(), at_once=4, every_s=1.4)

    def _stories(self) -> Iterator[Story]:
        for post in count(1):
            yield self._published(post)
            yield from (self._commented() for _ in range(4))

    def _published(self, post: int) -> Story:
        self._post, self._author = post, self._scene.random.choice(_AUTHORS)
        title = _POSTS[post % len(_POSTS)]
        readers = self._scene.some(5, self._author)
        yield [
            Say(f"blog:post:{post}", "post.published", {"post": post, "title": title}),
            _tell(readers, post, "post.published", f"New: {title}", self._author, priority="low"),
        ]

    def _commented(self) -> Story:
        if not self._post:
            return  # nothing is out yet
        post, author, comment = self._post, self._author, next(self._comments)
        reader = self._scene.someone(author, *_MODERATORS)
        self._waiting.append(comment)
        urgent = {"priority": "high"} if len(self._waiting) > _LONG_QUEUE else {}
        waiting = f"Comments that wait for a moderator: {len(self._waiting)}"
        yield [
            self._queue("comment.waiting", comment),
            _tell(_MODERATORS, post, "comment.waiting", waiting, reader, collapse_key="moderation", **urgent),
        ]
        self._waiting.remove(comment)
        if self._scene.perhaps(0.2):
            refused = reader.reads("Your comment was not published", uk="Ваш коментар не опубліковано")
            yield [
                self._queue("comment.rejected", comment),
                _tell([reader], post, "comment.rejected", refused, _MODERATORS[0], body="Please stay friendly."),
            ]
            return
        yield [
            self._queue("comment.approved", comment),
            Say(f"blog:post:{post}", "comment.added", {"comment": comment, "by": reader.id}),
            _tell([author], post, "comment.added", f"{reader.name} commented on your post", reader),
        ]
        if self._scene.perhaps(0.4):
            yield [
                Say(f"blog:post:{post}", "comment.answered", {"comment": comment, "by": author.id}),
                _tell([reader], post, "comment.answered", f"{author.first_name} answered you", author),
            ]

    def _queue(self, event: str, comment: int) -> Say:
        return Say(_QUEUE, event, {"comment": comment, "waiting": len(self._waiting)})


def _tell(whom: list[Person] | tuple[Person, ...], post: int, what: str, title: str, by: Person, **more: Any) -> Notify:  # noqa: ANN401  # JSON is anything
    return Notify(
        {
            "to": {"users": [person.id for person in whom]},
            "type": f"blog.{what}",
            "title": title,
            "data": {"post": post},
            "action_url": f"/posts/{post}",
            "actor": by.actor,
            **more,
        }
    )

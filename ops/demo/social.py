"""A social network: people post, like, follow and mention each other, and almost none of it is urgent.

Likes come in heaps. All likes of one post share a `collapse_key` and are `low`, so that they wait for each other and
never for anything else; whoever looks at the post is in its room and sees the number grow. The exception is a sign-in
that may be a stranger's.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from ops.demo.story import Notify, Say, Scene, Step, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.demo.cast import Person

_NETWORK = {"id": "social", "name": "Porch"}
_CITIES = ("Lviv", "Porto", "Tartu", "Ghent")


def produce(scene: Scene) -> Iterator[Step]:
    """Let people be social."""
    return scene.tell(_stories(scene), at_once=4, every_s=1.3)


def _stories(scene: Scene) -> Iterator[Story]:
    for number in count(1):
        yield _post(scene, number)
        yield _follow(scene)
        if number % 4 == 0:
            yield _strange_sign_in(scene)


def _post(scene: Scene, number: int) -> Story:
    author, *admirers = scene.some(scene.random.randint(4, 7))
    where = {"action_url": f"/posts/{number}", "data": {"post": number}}
    yield [Say(f"social:post:{number}", "post.published", {"post": number, "by": author.id})]
    for likes, admirer in enumerate(admirers, start=1):
        title = _liked_by(author, admirer, likes)
        yield [
            Say(f"social:post:{number}", "likes.counted", {"post": number, "likes": likes}),
            _tell(author, "post.liked", title, admirer, priority="low", collapse_key=f"post:{number}:likes", **where),
        ]
        if scene.perhaps(0.3):
            friend = scene.someone(author, admirer)
            mentioned = friend.reads(f"{admirer.name} mentioned you", uk=f"{admirer.name}: згадка про вас")
            yield [_tell(friend, "comment.mentioned", mentioned, admirer, body="You have to see this!", **where)]


def _liked_by(author: Person, admirer: Person, likes: int) -> str:
    if likes == 1:
        return author.reads(f"{admirer.name} likes your post", uk=f"{admirer.name} вподобує ваш допис")
    return author.reads(f"{likes} people like your post", uk=f"Ваш допис подобається: {likes}")


def _follow(scene: Scene) -> Story:
    follower, followed = scene.some(2)
    profile = {"action_url": f"/people/{follower.id}", "data": {"follower": follower.id}}
    yield [
        Say(f"social:profile:{followed.id}", "follower.added", {"follower": follower.id}),
        _tell(followed, "profile.followed", f"{follower.name} follows you", follower, priority="low", **profile),
    ]
    if scene.perhaps(0.5):
        back = {"action_url": f"/people/{followed.id}", "data": {"follower": followed.id}}
        yield [
            Say(f"social:profile:{follower.id}", "follower.added", {"follower": followed.id}),
            _tell(follower, "profile.followed", f"{followed.name} follows you back", followed, priority="low", **back),
        ]


def _strange_sign_in(scene: Scene) -> Story:
    person, city = scene.someone(), scene.random.choice(_CITIES)
    was_it_you = person.reads(f"A new sign-in from {city}: was it you?", uk=f"Новий вхід, {city}: це були ви?")
    where = {"action_url": "/account/sign-ins", "data": {"city": city}}
    yield [_tell(person, "account.entered", was_it_you, None, priority="critical", **where)]


def _tell(whom: Person, what: str, title: str, by: Person | None, **more: Any) -> Notify:  # noqa: ANN401  # JSON is anything
    actor = by.actor if by else _NETWORK
    return Notify({"to": {"user": whom.id}, "type": f"social.{what}", "title": title, "actor": actor, **more})

"""Which producer tells of which domain. A producer is a file of its own and knows none of the others."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ops.demo import blog, booking, events, learning, shop, social, tasks
from ops.demo.story import Producer, Scene, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

PRODUCERS: dict[str, Producer] = {
    "tasks": tasks.produce,
    "shop": shop.produce,
    "blog": blog.produce,
    "booking": booking.produce,
    "learning": learning.produce,
    "social": social.produce,
    "events": events.produce,
}


def steps_of(domain: str, seed: int, now: Callable[[], datetime]) -> Iterator[Step]:
    """Return a domain's endless steps. They depend on the seed, and not on which other domains are told of."""
    generator = random.Random(f"{domain} {seed}")  # noqa: S311  # to be repeated, not to be secret
    return PRODUCERS[domain](Scene(generator, now))

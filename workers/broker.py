"""Celery's Redis transport, mended: a worker whose acknowledgement fails still knows that its hands are free.

Kombu 5.7 tells Redis first that a message is done, and counts it as done only if Redis answered. Where Redis goes away,
as many failures as a worker may hold messages make it believe for ever that its hands are full: it asks for no more,
and so never notices that its connection is gone. It is kombu where that belongs.
"""

from __future__ import annotations

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """What a worker holds and has not acknowledged."""

    def ack(self, delivery_tag: str) -> None:
        """Note that a message is done, also where Redis cannot be told. Raises what redis-py raises."""
        try:
            self._remove_from_indices(delivery_tag).execute()  # type: ignore[no-untyped-call]
        finally:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  # kombu's signature
        """Give a message up, also where Redis cannot be told. Raises what redis-py raises."""
        try:
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]
        finally:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]


def mend_acknowledgements() -> None:
    """Make every channel to Redis in this process count with `QoS`. A transport of another name would break Flower."""
    redis.Channel.QoS = QoS

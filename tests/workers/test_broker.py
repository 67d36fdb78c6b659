"""A worker that cannot acknowledge a message is free for the next one all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from models.states import Priority
from workers.celery_app import make_celery, send_hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.settings import Settings


@pytest.mark.parametrize(
    "finish", [lambda message: message.ack(), lambda message: message.reject(requeue=True)], ids=["ack", "reject"]
)
def test_a_worker_whose_acknowledgement_fails_still_asks_for_more(
    finish: Callable[[Any], None], settings: Settings
) -> None:
    app = make_celery(settings)
    send_hint(app, Priority.LOW)
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.qos.prefetch_count = 1
        message = channel.basic_get(Priority.LOW.value)
        assert not channel.qos.can_consume(), "it holds as many as it may"
        port = channel.pool.connection_kwargs["port"]
        channel.pool.connection_kwargs["port"] = 1  # Redis goes away
        channel.pool.disconnect()
        channel.pool.reset()
        with pytest.raises(redis.ConnectionError):
            finish(message)
        assert channel.qos.can_consume()
        channel.pool.connection_kwargs["port"] = port

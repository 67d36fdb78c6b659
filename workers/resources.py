"""What a worker process holds: one connection to Postgres, one to Redis. Built after the fork, never before."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
import structlog

from models.database import TRANSIENT, Connection, connect
from models.push import BlockingPublisher
from workers.push_notes import PushNotes

if TYPE_CHECKING:
    from models.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Resources:
    """The connections of one worker process; Postgres is opened when first needed and again after a failure."""

    settings: Settings
    bus: redis.Redis  # the same as `redis`, unless the settings name another
    redis: redis.Redis
    publisher: BlockingPublisher
    push_notes: PushNotes
    _postgres: Connection | None = None

    @classmethod
    def build(cls, settings: Settings) -> Resources:
        """Prepare the connections; none is opened yet."""
        client = _connect(settings.redis_url)
        bus = _connect(settings.bus_url) if settings.bus_url else client
        notes = PushNotes(keeps=settings.push_retention_s > 0)
        return cls(settings, bus, client, BlockingPublisher(bus), notes)

    def connect(self) -> None:
        """Open the connections, so that the first task does not wait for them; what is away is tried again then."""
        try:
            self.postgres()
            self.redis.ping()
            self.bus.ping()
        except (*TRANSIENT, redis.RedisError) as error:
            log.info("not connected yet; the first task will try again", error=str(error))

    def postgres(self) -> Connection:
        """Return the open connection. Raises `psycopg.OperationalError`."""
        if self._postgres is None or self._postgres.closed or self._postgres.broken:
            self._postgres = connect(self.settings.database_url)
        return self._postgres

    def forget_postgres(self) -> None:
        """Close a connection that failed, so that the next use opens a new one."""
        if self._postgres is not None:
            with contextlib.suppress(*TRANSIENT):
                self._postgres.close()
            self._postgres = None

    def close(self) -> None:
        """Close everything."""
        self.forget_postgres()
        self.redis.close()
        self.bus.close()


def _connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2, health_check_interval=15)

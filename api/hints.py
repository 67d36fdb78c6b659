"""Stage 2: after a commit, tell the workers to look. Off the request's path; a failure costs a second, never a row."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import redis.asyncio
import structlog
from kombu.exceptions import OperationalError as BrokerError

from models import redis_keys, telemetry
from models.background import end
from models.states import Priority
from workers.celery_app import connect, send_hint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

log = structlog.get_logger(__name__)

_FLAG_TTL_MS = 1_000  # how long one hint stands for all that follow it, should it get lost
_BUDGET_S = 0.5
_PAUSE_AFTER_FAILURE_S = 0.5


class Hints:
    """Sends at most one outstanding message per priority; Celery's blocking client has a thread of its own."""

    def __init__(self, celery: Celery, client: redis.asyncio.Redis) -> None:
        self._celery = celery
        self._redis = client
        self._wanted: set[Priority] = set()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hints")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="hints")

    async def stop(self) -> None:
        """Stop sending; the sweep hints at what is left."""
        if self._task is not None:
            await end([self._task])
        self._thread.shutdown(wait=False, cancel_futures=True)

    def want(self, priorities: Iterable[Priority]) -> None:
        """Note that there is committed work of these priorities. Returns at once and never fails."""
        self._wanted.update(priorities)
        self._wake.set()

    async def _run(self) -> None:
        await self._connect()
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted = sorted(self._wanted, key=lambda priority: priority.rank)
            self._wanted.clear()
            if not all([await self._tell(priority) for priority in wanted]):
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, connect, self._celery)
        except (BrokerError, OSError) as error:
            log.info("redis is away; the first hint will try again", error=str(error))

    async def _tell(self, priority: Priority) -> bool:
        """Wake the dispatcher that is at work, or send a message where none is."""
        try:
            async with asyncio.timeout(_BUDGET_S):
                if not await self._nobody_looks(priority):
                    telemetry.hints.labels(str(priority), "woken").inc()
                    return True
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, send_hint, self._celery, priority)
                telemetry.hints.labels(str(priority), "sent").inc()
        except (redis.RedisError, BrokerError, OSError, TimeoutError) as error:
            telemetry.hints.labels(str(priority), "failed").inc()
            log.warning(
                "hint not sent; the sweep will", priority=str(priority), error=str(error) or type(error).__name__
            )
            return False
        except Exception:
            telemetry.hints.labels(str(priority), "failed").inc()
            log.exception("hint not sent, for a reason that nobody foresaw", priority=str(priority))
            return False
        return True

    async def _nobody_looks(self, priority: Priority) -> bool:
        wake = redis_keys.wake(priority)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(redis_keys.hint_outstanding(priority), 1, nx=True, px=_FLAG_TTL_MS)
        pipeline.lpush(wake, 1)
        pipeline.ltrim(wake, 0, 0)
        raised, *_ = await pipeline.execute()
        return bool(raised)

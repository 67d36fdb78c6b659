"""The Celery application: queues, beat and settings. Loads no task, so that the API can send hints without the work.

A message says "look", never "do this": losing one, or running one twice, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.entity import Queue as KombuQueue

from models.settings import load_settings
from models.states import Priority, Queue
from workers.broker import mend_acknowledgements

if TYPE_CHECKING:
    from models.settings import Settings

DISPATCH = "dispatch"
SWEEP = "sweep"
TRIM_ROOMS = "trim_rooms"
RETAIN = "retain"
BALANCE = "balance"
_CONNECT_S = 2
_BALANCE_S = 5.0

# A worker that dies with a message in hand gives it back soon; hints are idempotent, so early is better than late.
_TRANSPORT = {
    "visibility_timeout": 60,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 30,
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    "health_check_interval": 10,
    "retry_on_timeout": True,
}


def make_celery(settings: Settings) -> Celery:
    """Build the application for `settings.redis_url`; connects to nothing."""
    mend_acknowledgements()
    app = Celery("bellhop", broker=settings.redis_url or "redis://")
    app.conf.update(
        imports=("workers.tasks",),
        task_queues=[KombuQueue(queue.value, routing_key=queue.value) for queue in Queue],  # type: ignore[no-untyped-call]
        task_default_queue=Queue.RECOVER.value,
        task_create_missing_queues=False,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=15,
        worker_send_task_events=True,
        # Its subscription is the one place where a cut connection leaves the consumer waiting for ever; Flower lives
        # on the events that workers send.
        worker_enable_remote_control=False,
        worker_max_tasks_per_child=None,
        broker_transport_options=_TRANSPORT,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=3,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
        timezone="UTC",
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": settings.sweep_interval_s,
                "options": {"queue": Queue.RECOVER.value, "expires": 30},
            },
            "trim rooms": {
                "task": TRIM_ROOMS,
                "schedule": settings.trim_interval_s,
                "options": {"queue": Queue.RECOVER.value, "expires": 30},
            },
            "retain": {
                "task": RETAIN,
                "schedule": settings.trim_interval_s,
                "options": {"queue": Queue.RECOVER.value, "expires": 30},
            },
            "balance": {
                "task": BALANCE,
                "schedule": _BALANCE_S,
                "options": {"queue": Queue.RECOVER.value, "expires": 30},
            },
        },
        beat_scheduler="workers.beat:SteadyScheduler",
        beat_max_loop_interval=settings.sweep_interval_s,
    )
    return app


def connect(app: Celery) -> None:
    """Open the connection that hints go over, so that the first one does not wait for it. Blocks.

    Raises `kombu.exceptions.OperationalError`.
    """
    with app.producer_pool.acquire(block=True) as producer:
        producer.connection.ensure_connection(max_retries=1, timeout=_CONNECT_S)


def send_hint(app: Celery, priority: Priority) -> None:
    """Tell the workers of `priority` to look. Blocks on Redis; raises `kombu.exceptions.OperationalError`.

    Sent with `queue=`, through the default exchange: a named one would be forgotten by `FLUSHALL`.
    """
    options: dict[str, Any] = {"queue": priority.value, "ignore_result": True, "retry": False}
    app.send_task(DISPATCH, args=[priority.value], **options)


app = make_celery(load_settings())

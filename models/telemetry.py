"""Logs and metrics, named in one place. Logs are JSON in production and readable lines in development."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import orjson
import structlog
from prometheus_client import Counter, Gauge, Histogram

from models.states import Priority

if TYPE_CHECKING:
    from models.settings import Settings

# What they say at INFO is one line per task or request; it stays available at DEBUG.
_CHATTY = (
    "uvicorn.access",
    "uvicorn.error",  # a line or two per WebSocket, with its query
    "kombu",
    "amqp",
    "psycopg.pool",
    "celery.app.trace",
    "celery.worker.strategy",
    "celery.beat",
)

REMOVED_FROM = ("delivery", "inbox_change", "notification", "pushed")
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

accepted = Counter("bellhop_notifications_accepted", "Notifications committed by the API", ["priority"])
dispatched = Counter("bellhop_notifications_dispatched", "Notifications dispatched by workers", ["priority"])
deliveries = Counter("bellhop_deliveries", "Deliveries written by workers", ["priority"])
expired = Counter("bellhop_notifications_expired", "Notifications that expired before dispatch", ["priority"])
suppressed = Counter("bellhop_suppressed", "Deliveries that users' preferences kept from them", ["priority"])
gathered = Counter("bellhop_digest_entries", "Deliveries that wait in digests instead", ["priority"])
digests_closed = Counter("bellhop_digests_closed", "Digests closed, by the sweep or before their time")
withdrawn = Counter("bellhop_deliveries_withdrawn", "Deliveries taken out of inboxes again", ["cause"])
cancelled = Counter("bellhop_notifications_cancelled", "Notifications that backends cancelled", ["priority"])
parked = Counter("bellhop_notifications_parked", "Notifications parked after failed dispatches", ["priority"])
hints = Counter("bellhop_hints", "Dispatch hints by outcome", ["priority", "outcome"])
parked_now = Gauge("bellhop_parked", "Notifications that wait for an operator", multiprocess_mode="mostrecent")
looked_at = Counter("bellhop_notifications_looked_at", "Accepted ones, by where a look found them", ["state"])
unaccounted = Gauge(
    "bellhop_unaccounted_notifications",
    "Accepted ones that are neither on their way nor at an end",
    multiprocess_mode="mostrecent",
)
swept_at = Gauge("bellhop_last_sweep_timestamp_seconds", "Unix time of the last sweep", multiprocess_mode="mostrecent")
answers = Counter("bellhop_inbox_answers", "Lists and counts by origin: read anew, or kept and still true", ["origin"])
room_events = Counter("bellhop_room_events", "Events of rooms committed by the API")
room_events_trimmed = Counter("bellhop_room_events_trimmed", "Events of rooms that are no longer kept")
retired = Counter("bellhop_items_retired", "Items that left inboxes because they were too old or too many")
removed = Counter("bellhop_rows_removed", "Rows that are kept no longer", ["table"])
ingest_refusals = Counter("bellhop_ingest_refusals", "Notifications and events that the API refused", ["code"])
quota_failures = Counter("bellhop_quota_failures", "Times that Redis did not say what is left of a quota", ["quota"])
push_failures = Counter("bellhop_push_failures", "Batches that Redis did not take; nodes repair them from Postgres")
outbox_depth = Gauge("bellhop_outbox_depth", "Due outbox rows", ["priority"], multiprocess_mode="mostrecent")
outbox_age = Gauge(
    "bellhop_outbox_age_seconds", "Age of the oldest due row", ["priority"], multiprocess_mode="mostrecent"
)

pushed = Counter("bellhop_pushed", "Inbox frames with arrivals put to sockets", ["node", "priority"])
acked = Counter("bellhop_acked", "Inbox frames with arrivals acknowledged by clients", ["node", "priority"])
push_seconds = Histogram(
    "bellhop_push_seconds", "From commit of the notification to its push", ["priority"], buckets=LATENCY_BUCKETS
)
ack_seconds = Histogram(
    "bellhop_ack_seconds", "From commit of the notification to its ack", ["priority"], buckets=LATENCY_BUCKETS
)
sockets = Gauge("bellhop_sockets", "Authenticated sockets", ["node"])
hears = Gauge("bellhop_node_hears", "1 while the node hears what Redis publishes to it", ["node"])
rooms_held = Gauge("bellhop_rooms", "Rooms that somebody has joined", ["node"])
watched = Gauge("bellhop_watched", "Users whose presence somebody watches", ["node"])
room_members = Gauge("bellhop_room_members", "Joined rooms, summed over sockets", ["node"])
room_push_seconds = Histogram(
    "bellhop_room_push_seconds",
    "From commit of a room's event to its first frame",
    buckets=LATENCY_BUCKETS,
)
frames_sent = Counter("bellhop_frames", "Frames put to sockets", ["node", "event"])
repairs = Counter("bellhop_repairs", "Times a connection was caught up from Postgres", ["node", "reason"])
drops = Counter("bellhop_drops", "Frames and sockets dropped", ["node", "reason"])
refusals = Counter("bellhop_socket_refusals", "Refused connections and events", ["node", "code"])


def count_from_zero() -> None:
    """Make a worker's counters exist before they count: of a series that begins with 1, `increase()` sees nothing."""
    for counter in (dispatched, deliveries, expired, parked):
        for priority in Priority:
            counter.labels(str(priority))
    room_events_trimmed.inc(0)
    retired.inc(0)
    for table in REMOVED_FROM:
        removed.labels(table)


def configure_logging(settings: Settings, process: str) -> None:
    """Send structlog and the standard library's logging to standard error, one line per event."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.env == "production":
        shared.append(structlog.processors.format_exc_info)
        renderer: structlog.types.Processor = structlog.processors.JSONRenderer(
            serializer=lambda value, **_: orjson.dumps(value, default=str).decode()
        )
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=False,
            timestamp_key="",
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables, secrets too
        )
        shared.pop()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.EventRenamer("message")] if settings.env == "production" else []),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for noisy in _CHATTY:
        logging.getLogger(noisy).setLevel("DEBUG" if settings.log_level == "DEBUG" else "WARNING")
    structlog.contextvars.bind_contextvars(process=process)

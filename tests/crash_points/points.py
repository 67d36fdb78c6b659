"""The steps at which processes die. All that these tests know of the insides of the product stands here.

A name that the product no longer has is an error at the start of the process, so that no test can turn vacuous.
"""

from __future__ import annotations

import importlib
import inspect
import os
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from tests.crash_points.fuse import Fuse

    Function = Callable[..., Any]
    Wrap = Callable[[Function, Fuse], Function]


class NoSuchPointError(Exception):
    """The product has no function of this name any more; the test must be led to its successor."""


@dataclass(frozen=True, slots=True)
class Point:
    """A function of the product, as `module:name` or `module:Class.name`, and how to die around it."""

    target: str
    wrap: Wrap

    def install(self, fuse: Fuse) -> None:
        """Put the crash into this process. Raises `NoSuchPointError`."""
        module, _, path = self.target.partition(":")
        *holders, name = path.split(".")
        try:
            holder: Any = importlib.import_module(module)
            for part in holders:
                holder = getattr(holder, part)
            function = vars(holder)[name]
        except (ImportError, AttributeError, KeyError) as error:
            msg = f"the product has no {self.target} any more: say in tests/crash_points/points.py where to die instead"
            raise NoSuchPointError(msg) from error
        setattr(holder, name, self.wrap(function, fuse))


def before(function: Function, fuse: Fuse) -> Function:
    """Die when the function is called, before it does anything."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def calling(*args: Any, **named: Any) -> Any:
            if fuse.lit():
                fuse.die()
            return await function(*args, **named)
    else:

        @wraps(function)
        def calling(*args: Any, **named: Any) -> Any:
            if fuse.lit():
                fuse.die()
            return function(*args, **named)

    return calling


def after(function: Function, fuse: Fuse) -> Function:
    """Die when the function has done all it does, before its caller learns of it."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def called(*args: Any, **named: Any) -> Any:
            answer = await function(*args, **named)
            if fuse.lit():
                fuse.die()
            return answer
    else:

        @wraps(function)
        def called(*args: Any, **named: Any) -> Any:
            answer = function(*args, **named)
            if fuse.lit():
                fuse.die()
            return answer

    return called


def before_commit(function: Function, fuse: Fuse) -> Function:
    """Die at the end of the block of a transaction: all its statements were answered, and nothing is committed."""

    @asynccontextmanager
    async def transaction(*args: Any, **named: Any) -> AsyncIterator[Any]:
        async with function(*args, **named) as connection:
            yield connection
            if fuse.lit():
                fuse.die()

    return transaction


def before_a_workers_commit(function: Function, fuse: Fuse) -> Function:
    """Do the same where nothing is awaited."""

    @contextmanager
    def transaction(*args: Any, **named: Any) -> Iterator[Any]:
        with function(*args, **named) as connection:
            yield connection
            if fuse.lit():
                fuse.die()

    return transaction


def between_publishes(function: Function, fuse: Fuse) -> Function:
    """Die when the first of several nodes was told: a pipeline is a stream of bytes, and may end anywhere."""

    @wraps(function)
    def route(*args: Any, **named: Any) -> Generator[list[tuple[Any, ...]], list[Any], Any]:
        steps = function(*args, **named)
        answers = None
        while True:
            try:
                commands = steps.send(answers)
            except StopIteration as done:
                return done.value
            if [command[0] for command in commands[:2]] == ["PUBLISH", "PUBLISH"] and fuse.lit():
                (heard,) = yield commands[:1]
                fuse.die(heard=heard, told=1, of=len(commands))
            answers = yield commands

    return route


def half_a_frame(function: Function, fuse: Fuse) -> Function:
    """Die in the middle of an inbox frame: half of its bytes are with the kernel."""

    @wraps(function)
    def write_frame(self: Any, frame: bytes) -> bool:
        if b'42["inbox"' in frame[:20] and fuse.lit():
            written = os.write(self.transport.get_extra_info("socket").fileno(), frame[: len(frame) // 2])
            fuse.die(written=written, of=len(frame))
        return bool(function(self, frame))

    return write_frame


WORKER = {
    "claimed": Point("workers.dispatch:plan_batch", before),
    "written": Point("workers.dispatch:_write", after),
    "committed": Point("workers.pushing:_push", before),
    "half published": Point("models.push:Router.route", between_publishes),
    "published": Point("workers.pushing:_push", after),
    "idle": Point("workers.watch:Watch.lower", before),
    "withdrawn": Point("workers.dispatch:withdraw_next", after),
    "gathered": Point("workers.fan_out:FanningOut._gather", after),
    "digest read": Point("models.digest_closing:compose", after),
    "digest closed": Point("models.digest_closing:transaction", before_a_workers_commit),
    "digest committed": Point("workers.tasks:close_due", after),
    "retired": Point("workers.retain:transaction", before_a_workers_commit),
    "retired and untold": Point("workers.retain:change_push", before),
    "retired and told": Point("workers.retain:_retire", after),
}

API = {
    "not inserted": Point("api.ingest:Ingest._insert", before),
    "inserted": Point("api.ingest:Ingest._insert", after),
    "hinted": Point("api.ingest:Ingest.accept", after),
    "event not inserted": Point("api.room_events:RoomEvents._insert", before),
    "event inserted": Point("models.push_queue:PushQueue.put", before),
    "recalling": Point("api.cancellations:_Recall._withdraw", after),
    "recalled": Point("models.push_queue:PushQueue.put", before),
    "closing": Point("models.digest_closing:_written", after),
    "closed": Point("models.digest_closing:Digests.close", after),
    "waiting forgotten": Point("models.erasure:_Erasure._forget_what_waits", after),
    "digests erased": Point("models.erasure:_Erasure._some_digests", after),
    "numbers erased": Point("models.erasure:_Erasure._lowest_numbers", after),
    "inbox erased": Point("models.erasure:_Erasure._erase_inbox", after),
}

SOCKET = {
    "push read": Point("socket_server.delivery:Delivery.on_push", before),
    "page read": Point("models.inbox:InboxStore.page", after),
    "half a page": Point("socket_server.websocket:WebSocketProtocol.write_frame", half_a_frame),
    "acting": Point("models.database:Database.transaction", before_commit),
    "acted": Point("models.inbox:InboxStore._tell_devices", before),
    "told": Point("models.inbox:InboxStore._tell_devices", after),
}

PROGRAMS = {"worker": WORKER, "api": API, "socket": SOCKET}

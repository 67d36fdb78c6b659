"""What clients ask for, and the answers. Each event has a message class, which refuses what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from models.errors import UnknownEventError, ValidationFailedError
from models.fields import explained
from models.socket_events import CLIENT_EVENTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from models.contracts import ActionIn
    from models.inbox import InboxStore
    from models.socket_events import AckIn, JoinIn, LeaveIn, RefreshIn, StatusIn, SyncIn, UnwatchIn, WatchIn
    from models.token_locales import TokenLocales
    from models.token_verifier import TokenVerifier
    from socket_server.lifetimes import Lifetimes
    from socket_server.presence import Presence
    from socket_server.receipts import Receipts
    from socket_server.registry import Connection
    from socket_server.rooms import Rooms
    from socket_server.watching import Watching

    Answer = dict[str, Any]
    Handle = Callable[[Connection, Any], Awaitable[Answer]]

Event = TypeVar("Event", bound=BaseModel)


class ClientEvents:
    """Answers client events."""

    def __init__(  # the composition root hands over each part by name
        self,
        *,
        inbox: InboxStore,
        receipts: Receipts,
        rooms: Rooms,
        presence: Presence,
        watching: Watching,
        tokens: TokenVerifier,
        token_locales: TokenLocales,
        lifetimes: Lifetimes,
    ) -> None:
        self._inbox = inbox
        self._receipts = receipts
        self._rooms = rooms
        self._presence = presence
        self._watching = watching
        self._tokens = tokens
        self._token_locales = token_locales
        self._lifetimes = lifetimes
        self._handlers: dict[str, Handle] = {
            "ack": self._ack,
            "sync": self._sync,
            "act": self._act,
            "join": self._join,
            "leave": self._leave,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "status": self._status,
            "refresh": self._refresh,
        }

    async def answer(self, connection: Connection, name: str, arguments: list[Any]) -> Answer:
        """Do what an event asks for and return the answer. Raises `BellhopError`."""
        if name not in CLIENT_EVENTS:
            detail = f"There is no event {name[:64]!r}; the events are {', '.join(CLIENT_EVENTS)}"
            raise UnknownEventError(detail)
        model, _ = CLIENT_EVENTS[name]
        return {"ok": True, **await self._handlers[name](connection, _payload(model, arguments))}

    async def _ack(self, connection: Connection, given: AckIn) -> Answer:
        self._receipts.ack(connection, given.seq)
        return {}

    async def _sync(self, connection: Connection, given: SyncIn) -> Answer:
        token = connection.token
        page = await self._inbox.page(token.tenant, token.user, given.since, given.limit)
        return _decoded(page.as_json())

    async def _act(self, connection: Connection, given: ActionIn) -> Answer:
        token = connection.token
        done = await self._inbox.act(token.tenant, token.user, [given.action], seqs=given.seqs, up_to=given.up_to)
        return _decoded(done.as_json())

    async def _join(self, connection: Connection, given: JoinIn) -> Answer:
        return await self._rooms.join(connection, given)

    async def _leave(self, connection: Connection, given: LeaveIn) -> Answer:
        self._rooms.leave(connection, given.room)
        return {}

    async def _watch(self, connection: Connection, given: WatchIn) -> Answer:
        return await self._watching.watch(connection, given.users)

    async def _unwatch(self, connection: Connection, given: UnwatchIn) -> Answer:
        self._watching.unwatch(connection, given.users)
        return {}

    async def _status(self, connection: Connection, given: StatusIn) -> Answer:
        self._presence.set_away(connection, away=given.status == "away")
        return {}

    async def _refresh(self, connection: Connection, given: RefreshIn) -> Answer:
        token = await self._tokens.verify(given.token)
        self._lifetimes.exchange(connection, token)
        self._token_locales.note(token)
        self._rooms.leave_what_is_not_granted(connection)
        self._watching.unwatch_what_is_not_granted(connection)
        return {"expires_at": token.expires_at}


def _decoded(answer: bytes) -> Answer:
    decoded: Answer = orjson.loads(answer)
    return decoded


def _payload(model: type[Event], arguments: list[Any]) -> Event:
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        detail = "The event takes one JSON object"
        raise ValidationFailedError(detail)
    return checked(model, arguments[0])


def checked(model: type[Event], value: object) -> Event:
    """Return `value` as a `model`. Raises `ValidationFailedError`, whose detail names the first thing that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValidationFailedError(f"{where}: {explained(first)}" if where else explained(first)) from error

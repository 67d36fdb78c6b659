"""`inbox-depth`: what a user with 100,000 deliveries waits for each read, and for "mark all read" of 20,000.

Reads go one after the other over one connection that stays open, as from one device. Lists and counts are asked for
when the inbox has just changed, so that nobody can know the answer yet. Each answer is looked at: a wrong one is a
fault, however fast it came.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ops.bench.facts import Facts, Measure, in_ms
from ops.bench.fill import DOMAINS, RARE, RARE_EVERY, Depth, filler
from ops.bench.lab import backstage_of, say
from ops.bench.recorder import percentile
from ops.bench.rest import RestDevice
from ops.bench.sockets import Crowd
from ops.bench.streams import no_collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ops.bench.endpoint import Endpoint
    from ops.bench.fill import Filler
    from ops.bench.lab import Lab

NAME = "inbox-depth"
_DEPTH, _UNREAD, _UNSEEN, _ARCHIVED = 100_000, 10_000, 5_000, 1_000
_READS = 300
_MARKED, _MARKINGS = 20_000, 5
_PAGE, _LOG_PAGE = 20, 100
_SYNCS_PER_SOCKET = 150  # below what one connection may ask for at once
_LIMIT_S = 120.0
_P99_MS = 10
_MARK_ALL_MS = 300

READS = {
    "sync": "socket sync, the last 100",
    "log_near": "log, the last 100",
    "log_far": "log, 100 far back",
    "list_deep": "list, a page far back",
    "list_first": "list, first page",
    "list_domain": "list of a domain, 1 in 5",
    "list_rare_domain": "list of a domain, 1 in 10,000",
    "list_unread": "list of what is unread",
    "list_archived": "list of what is archived",
    "counts": "counts by domain",
    "list_again": "list, first page, unchanged",
    "counts_again": "counts by domain, unchanged",
}
MEASURES = (
    *(
        measure
        for key, name in READS.items()
        for measure in (
            Measure(f"{key}_p50_ms", f"{name}: p50, ms"),
            Measure(f"{key}_p99_ms", f"{name}: p99, ms", _P99_MS),
        )
    ),
    Measure("mark_all_read_p50_ms", "mark all read: p50, ms"),
    Measure("mark_all_read_max_ms", "mark all read: longest, ms", _MARK_ALL_MS),
)


@dataclass(slots=True)
class _Inbox:
    """The deep inbox, as it must look by now: a change reads its oldest unread delivery, or makes it unread again."""

    depth: Depth
    changes: int = 0

    @property
    def read(self) -> int:
        """Up to which number everything is read."""
        return self.depth.read + self.changes % 2

    def change(self, device: RestDevice) -> None:
        """Make one change, which gives the inbox another number."""
        action = "unread" if self.changes % 2 else "read"
        device.post("/v1/inbox/actions", {"action": action, "seqs": [self.depth.read + 1]})
        self.changes += 1


@dataclass(frozen=True, slots=True)
class _Read:
    """One kind of request: its nth query, whether an answer is what it must be, and whether a change precedes each."""

    path: Callable[[int], str]
    right: Callable[[dict[str, Any]], bool]
    changed: bool = False


def run(lab: Lab) -> Iterator[Facts]:
    """Measure one deep inbox, and fresh ones to be marked, in each run."""
    with lab.stack() as endpoint, filler(backstage_of(endpoint)) as tables:
        lab.warm_up(endpoint)
        for number in lab.runs:
            yield _measure(lab, endpoint, tables, number)


def _measure(lab: Lab, endpoint: Endpoint, tables: Filler, number: int) -> Facts:
    depth, marked = _depth(lab), lab.scaled(_MARKED, least=10)
    user, to_mark = f"{lab.prefix()}0", [lab.prefix() for _ in range(_MARKINGS)]
    say(f"{NAME}: writing {depth.count:,} deliveries, and {_MARKINGS} times {marked:,}")
    tables.inbox(user, depth)
    for each in to_mark:
        tables.inbox(each, Depth(marked))
    tables.tidy()
    count = lab.scaled(_READS, least=3)
    took: dict[str, list[float]] = {}
    wrong = 0
    with no_collector():
        syncs = lab.run(_syncs(endpoint, user, depth, count), limit_s=_LIMIT_S, what=f"{NAME}: {READS['sync']}")
        took["sync"] = sorted(seconds for _, seconds in syncs)
        wrong += sum(not _is_page(answer, depth.count, depth.count) for answer, _ in syncs)
        device, inbox = RestDevice(endpoint, user), _Inbox(depth)
        for key, read in _reads(inbox).items():
            say(f"{NAME}: {READS[key]}")
            took[key] = []
            for nth in range(count):
                if read.changed:
                    inbox.change(device)
                answer, seconds = device.get(read.path(nth))
                took[key].append(seconds)
                wrong += not read.right(answer)
            took[key].sort()
        device.close()
        say(f"{NAME}: mark all read")
        markings = [_mark_all(endpoint, each, marked) for each in to_mark]
        wrong += sum(not right for right, _ in markings)
    marking = sorted(seconds for _, seconds in markings)
    values = {
        f"{key}_p{share * 100:.0f}_ms": in_ms(percentile(seconds, share))
        for key, seconds in took.items()
        for share in (0.5, 0.99)
    }
    return Facts(
        scenario=NAME,
        run=number,
        measures=MEASURES,
        values={
            **values,
            "mark_all_read_p50_ms": in_ms(percentile(marking, 0.5)),
            "mark_all_read_max_ms": in_ms(percentile(marking, 1.0)),
        },
        about={
            "deliveries": depth.count,
            "unread": depth.count - depth.read,
            "unseen": depth.count - depth.seen,
            "archived": depth.archived,
            "requests_each": count,
            "marked": marked,
            "markings": _MARKINGS,
        },
        faults={"wrong answers": wrong},
    )


def _depth(lab: Lab) -> Depth:
    count, unread, unseen, archived = (lab.scaled(each, least=4) for each in (_DEPTH, _UNREAD, _UNSEEN, _ARCHIVED))
    return Depth(count, archived=archived, read=count - unread, seen=count - unseen)


def _reads(inbox: _Inbox) -> dict[str, _Read]:
    """Return what is asked for, in this order: the log first, while it holds arrivals only.

    Far back is the oldest tenth, another place each time.
    """
    depth = inbox.depth
    last, places = depth.count, max(1, depth.count // 10)
    rare = sum(1 for seq in range(depth.archived + 1, last + 1) if seq % RARE_EVERY == 1)
    first = _list("", lambda items: _seqs(items) == _below(last + 1, depth.archived))
    counts = _Read(
        lambda _: "/v1/inbox/counts",
        lambda answer: (answer["unread"], answer["unseen"]) == (last - inbox.read, last - depth.seen),
        changed=True,
    )
    return {
        "log_near": _Read(
            lambda _: f"/v1/inbox/log?limit={_LOG_PAGE}&since={max(0, last - _LOG_PAGE)}",
            lambda answer: _is_page(answer, last, last),
        ),
        "log_far": _Read(
            lambda nth: f"/v1/inbox/log?limit={_LOG_PAGE}&since={nth * 7 % places}",
            lambda answer: _is_page(answer, answer["to"], last),
        ),
        "list_deep": _Read(
            lambda nth: f"/v1/inbox?limit={_PAGE}&before={depth.archived + _LOG_PAGE + nth * 7 % places}",
            lambda answer: bool(answer["items"]) and _descends(answer["items"]),
        ),
        "list_first": first,
        "list_domain": _list(f"&domain={DOMAINS[0]}", lambda items: {item["domain"] for item in items} <= {DOMAINS[0]}),
        "list_rare_domain": _list(f"&domain={RARE}", lambda items: len(items) == min(rare, _PAGE)),
        "list_unread": _list("&status=unread", lambda items: _seqs(items) == _below(last + 1, inbox.read)),
        "list_archived": _list("&status=archived", lambda items: _seqs(items) == _below(depth.archived + 1, 0)),
        "counts": counts,
        "list_again": replace(first, changed=False),
        "counts_again": replace(counts, changed=False),
    }


def _list(query: str, right: Callable[[list[dict[str, Any]]], bool]) -> _Read:
    return _Read(lambda _: f"/v1/inbox?limit={_PAGE}{query}", lambda answer: right(answer["items"]), changed=True)


def _seqs(items: Sequence[dict[str, Any]]) -> list[int]:
    return [item["seq"] for item in items]


def _below(before: int, after: int) -> list[int]:
    """Return the numbers of a page: from below `before` down, at most a page of them, and none up to `after`."""
    return list(range(before - 1, max(after, before - 1 - _PAGE), -1))


def _descends(items: Sequence[dict[str, Any]]) -> bool:
    return all(upper["seq"] > lower["seq"] for upper, lower in itertools.pairwise(items))


def _is_page(answer: dict[str, Any], to: int, head: int) -> bool:
    seqs = [entry["seq"] for entry in answer["entries"]]
    return (answer["to"], answer["head"], answer["reset"]) == (to, head, False) and seqs == [
        *range(answer["from"], answer["to"] + 1)
    ]


def _mark_all(endpoint: Endpoint, user: str, count: int) -> tuple[bool, float]:
    """Return whether everything is read then, and after how many seconds."""
    device = RestDevice(endpoint, user)
    device.get("/v1/inbox?limit=1")
    answer, took = device.post("/v1/inbox/actions", {"action": "read", "up_to": count})
    device.close()
    return (answer["changed"], answer["seq"], answer["counts"]["unread"]) == (count, count + 1, 0), took


async def _syncs(endpoint: Endpoint, user: str, depth: Depth, count: int) -> list[tuple[dict[str, Any], float]]:
    took: list[tuple[dict[str, Any], float]] = []
    for first in range(0, count, _SYNCS_PER_SOCKET):
        crowd = Crowd(endpoint, user.removesuffix("0"), {})
        await crowd.connect(1)
        ask = {"since": max(0, depth.count - _LOG_PAGE), "limit": _LOG_PAGE}
        took += [await crowd.device(0).ask("sync", ask) for _ in range(min(_SYNCS_PER_SOCKET, count - first))]
        await crowd.close()
    return took

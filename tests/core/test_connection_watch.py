"""When events are read, when they are trusted, and when the kernel is asked instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mptcpd.core.connection_watch import ConnectionWatch
from mptcpd.core.connections import Connections
from mptcpd.core.loop import Loop
from mptcpd.core.pace import PAUSE, Pace
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, NetlinkError, Overrun
from mptcpd.nl.mptcp_event import Event

GROUP = 7
SLOTS = 4
EVERYTHING = frozenset(range(1, 17))
LISTENERS = frozenset({u.MPTCP_EVENT_LISTENER_CREATED})


class Events:
    """The socket: it only remembers what was asked of it."""

    foreign = 0
    slots = SLOTS

    def __init__(self) -> None:
        self.calls: list[str] = []

    def fileno(self) -> int:
        return 99

    def join(self, group: int) -> None:
        self.calls.append(f"join {group}")

    def filter(self, program: object) -> None:
        self.calls.append("filter")


class Reader:
    """What the kernel would let be read, batch after batch: events, Overrun, or nothing."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.quickly = 0
        self.batches: list[list[Event] | Overrun] = []
        self.quick: object = None

    def receive(
        self,
        take: Callable[[Event], object],
        malformed: Callable[[DecodeError], object],
        quick: object,
    ) -> int:
        self.quick = quick
        batch = self.batches.pop(0) if self.batches else []
        if isinstance(batch, Overrun):
            raise batch
        for event in batch:
            take(event)
            self.counts[event.kind] = self.counts.get(event.kind, 0) + 1
        return len(batch)


class FakeLoop:
    """Descriptors that are readable when a test says so, and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.real = Loop(lambda: self.now)
        self.readers: dict[int, Callable[[], object]] = {}

    def add_reader(self, fd: int, function: Callable[[], object]) -> None:
        assert fd not in self.readers
        self.readers[fd] = function

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def call_later(self, seconds: float, function: Callable[..., object], *rest: Any) -> Any:
        return self.real.call_later(seconds, function, *rest)

    def round(self) -> None:
        """As ``Loop.run``: first the descriptors, then the deadlines."""
        for function in list(self.readers.values()):
            function()
        self.real._expire()


class Case:
    """The watch, with a note of each comparison: how many batches still waited then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.events, self.reader, self.loop = Events(), Reader(), FakeLoop()
        listener: Any = Quiet()
        self.table = Connections(listener, lambda connection: None)
        kernel: Any = None
        self.compared: list[int] = []
        self.fails = 0
        monkeypatch.setattr("mptcpd.core.connection_watch.resync", self.resync)
        monkeypatch.setattr("mptcpd.core.connection_watch.time.monotonic", lambda: self.loop.now)
        loop: Any = self.loop
        self.watch = ConnectionWatch(
            loop, self.events, self.reader, kernel, self.table, **options
        )
        self.watch._pace = Pace(lambda: self.loop.now)

    def resync(
        self, kernel: object, table: Connections, catch_up: Callable[[], object]
    ) -> tuple[int, int, int, int]:
        if self.fails:
            self.fails -= 1
            raise NetlinkError("no answer")
        self.events.calls.append("dump")
        self.compared.append(len(self.reader.batches))
        return 0, 0, 0, 0


class Quiet:
    """Is told of everything and says nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *told: None


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    case = Case(monkeypatch)
    case.watch.start(GROUP, EVERYTHING)
    case.compared.clear()
    yield case
    case.loop.real.close()


LOST = Overrun("lost")


def events(count: int, start: int = 1) -> list[Event]:
    return [
        Event(
            u.MPTCP_EVENT_CREATED, token, local_ip=b"abcd", local_port=1, remote_ip=b"efgh",
            remote_port=2,
        )
        for token in range(start, start + count)
    ]  # fmt: skip


def test_subscribe_first_and_dump_second(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    case.watch.start(GROUP, EVERYTHING)
    assert case.events.calls == ["filter", f"join {GROUP}", "dump"]
    assert case.loop.readers.keys() == {99}
    assert case.reader.quick is None  # nothing was read yet
    case.loop.round()
    assert case.reader.quick is case.table


def test_who_wants_no_event_is_joined_but_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    case.watch.start(GROUP, frozenset())
    assert case.events.calls == ["filter", f"join {GROUP}"]
    assert case.loop.readers == {}


def test_listeners_alone_need_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    case.watch.start(GROUP, LISTENERS)
    assert "dump" not in case.events.calls
    assert case.loop.readers.keys() == {99}


def test_what_is_traced_is_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Event] = []
    case = Case(monkeypatch, trace=traced.append)
    case.watch.start(GROUP, EVERYTHING)
    case.reader.batches = [events(2)]
    case.loop.round()
    assert traced == events(2)
    assert case.reader.quick is None


def test_an_overrun_is_followed_by_a_comparison_when_all_is_read(case: Case) -> None:
    case.reader.batches = [LOST, events(SLOTS), events(SLOTS, 10), events(1, 20)]
    case.loop.round()
    assert case.compared == [0]
    assert case.watch.overruns == 1
    assert len(case.table.by_token) == 2 * SLOTS + 1
    case.loop.round()
    assert case.compared == [0]  # and by one


def test_no_comparison_while_the_queue_was_never_empty(case: Case) -> None:
    """Until then the kernel goes on dropping, and says no more of it."""
    case.reader.batches = [LOST, *(events(SLOTS, 10 * n) for n in range(100))]
    rounds = 0
    while case.reader.batches:
        assert case.compared == []
        case.loop.round()
        rounds += 1
    assert rounds > 3  # others had their turn in between
    case.loop.round()
    assert case.compared == [0]


def test_a_comparison_that_is_due_waits_for_a_later_overrun(case: Case) -> None:
    """It would come before the queue was read empty: what is dropped after it would be lost."""
    case.watch._not_before = 5.0  # the last one has just been, and took that long
    case.reader.batches = [LOST, []]
    case.loop.round()
    assert case.compared == []
    case.loop.now = 6.0
    case.reader.batches = [LOST, *(events(SLOTS, 10 * n) for n in range(40))]
    case.loop.round()
    assert case.reader.batches
    assert case.compared == []
    while case.reader.batches:
        case.loop.round()
    case.loop.round()
    assert case.compared == [0]


def test_a_comparison_that_fails_is_made_again(case: Case) -> None:
    case.fails = 2
    case.reader.batches = [LOST, []]
    case.loop.round()
    for seconds in (0.5, 1.0, 1.5):
        case.loop.now = seconds
        case.loop.round()
    assert case.compared == []
    case.loop.now = 2.0
    case.loop.round()
    assert case.compared == [0]


def test_overruns_are_said_once_a_minute(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for second in range(130):
        case.loop.now = float(second)
        case.reader.batches = [LOST, []]
        case.loop.round()
    assert case.watch.overruns == 130
    assert len(case.compared) == 130
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def pour(case: Case) -> None:
    """Half a second of 60,000 events a second, read as soon as they come."""
    token = 100
    for _read in range(5000):
        case.loop.now += 0.0001
        case.reader.batches = [events(SLOTS, token), events(2, token + SLOTS)]
        case.loop.round()
        token += 6


def test_fast_events_gather(case: Case) -> None:
    pour(case)
    assert case.loop.readers == {}  # not looked at for a moment
    case.loop.now += PAUSE
    case.reader.batches = [events(1, 90_000)]
    case.loop.round()
    assert 90_000 in case.table.by_token


def test_after_an_overrun_there_is_no_pause(case: Case) -> None:
    case.reader.batches = [LOST, []]
    case.loop.round()
    pour(case)
    assert case.loop.readers.keys() == {99}


def test_aborts_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the queue is read before: that is no silent end."""
    count = [0]
    case = Case(monkeypatch, aborted=lambda: count[0])
    monkeypatch.setattr(case.watch._silent, "_clock", lambda: case.loop.now)
    case.watch.start(GROUP, EVERYTHING)
    case.compared.clear()
    case.reader.batches = [events(1)]
    case.loop.round()
    count[0] += 1
    case.loop.now = 2.0
    case.loop.readers.clear()
    case.reader.batches = [events(1, 5)]
    case.loop.round()
    assert case.compared == [0]
    assert case.table.by_token.keys() == {1, 5}


def test_stop(case: Case) -> None:
    case.reader.batches = [events(1)]
    case.loop.round()
    case.reader.batches = [LOST, []]
    case.watch._not_before = 5.0
    case.loop.round()
    case.watch.stop()
    case.loop.readers.clear()
    case.loop.now = 100.0
    case.loop.round()
    assert case.compared == []

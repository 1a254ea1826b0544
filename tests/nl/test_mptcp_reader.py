"""Batches of events: each datagram by the quickest way that will have it, and none lost or doubled.

``tests/fuzz/test_fuzz_nl.py`` holds the reader to the plain parsers for any bytes.
"""

from __future__ import annotations

import sys

import pytest

from mptcpd.nl import attrs, genl, messages, mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Layouts, nlattr
from mptcpd.nl.errors import DecodeError, Overrun
from mptcpd.nl.mptcp_event import Event
from mptcpd.nl.mptcp_reader import EventReader

FAMILY = 28
CLOSED = Event(u.MPTCP_EVENT_CLOSED, 7)
REMOVED = Event(u.MPTCP_EVENT_REMOVED, 8, remote_id=3)


@pytest.fixture(autouse=True)
def fresh_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with nothing learnt."""
    for name in ("_LAYOUTS", "_OPENED_LAYOUTS"):
        layouts = getattr(mptcp_event, name)
        monkeypatch.setattr(mptcp_event, name, Layouts(layouts._fields, layouts._width))


class Slots:
    """What an event socket holds, batch after batch."""

    def __init__(self, *batches: list[bytes]) -> None:
        self.memory = memoryview(bytearray(b"\xff" * 4096))
        self._batches = list(batches)

    def batch(self) -> list[tuple[int, int]]:
        spans = []
        for index, datagram in enumerate(self._batches.pop(0)):
            start = index * 256
            self.memory[start : start + len(datagram)] = datagram
            spans.append((start, len(datagram)))
        return spans


def datagram(event: Event, family: int = FAMILY) -> bytes:
    return messages.build(family, 0, 0, 0, mptcp_event.build(event))


def receive(reader: EventReader) -> tuple[list[Event], list[str]]:
    events: list[Event] = []
    errors: list[DecodeError] = []
    reader.receive(events.append, errors.append)
    return events, [str(error) for error in errors]


def test_events_in_order() -> None:
    batch = [datagram(event) for event in (CLOSED, REMOVED, CLOSED._replace(token=9))]
    reader = EventReader(Slots(batch, [], batch), FAMILY)
    for count in (3, 0, 3):
        events: list[Event] = []
        assert reader.receive(events.append, lambda error: None) == count
        assert events == [CLOSED, REMOVED, CLOSED._replace(token=9)][:count]
    assert reader.events == 6


def test_several_events_in_a_datagram() -> None:
    reader = EventReader(Slots([datagram(CLOSED) + datagram(REMOVED)] * 2), FAMILY)
    assert receive(reader) == ([CLOSED, REMOVED] * 2, [])
    assert reader.events == 4


def test_other_families_are_no_events() -> None:
    batch = [datagram(CLOSED, family=29), datagram(CLOSED)]
    reader = EventReader(Slots(batch, batch), FAMILY)
    for _learning_then_known in range(2):
        assert receive(reader) == ([CLOSED], [])
    assert reader.events == 2


def test_what_is_malformed_does_not_take_others_along() -> None:
    batch = [
        b"",
        b"\1\2\3",
        datagram(CLOSED)[:-1],
        messages.build(FAMILY, 0, 0, 0, genl.header(u.MPTCP_EVENT_CLOSED)),
        messages.build(FAMILY, 0, 0, 0, b""),
        datagram(CLOSED),
    ]
    reader = EventReader(Slots(batch), FAMILY)
    events, errors = receive(reader)
    assert events == [CLOSED]
    assert [error.partition(":")[0] for error in errors] == [
        "message at offset 0", "message at offset 0",
        "Required MPTCP_EVENT_CLOSED message attributes are missing", "genlmsghdr",
    ]  # fmt: skip
    assert reader.events == 1


def test_nothing_of_an_older_message_is_read() -> None:
    """The slot still holds the event before; the new datagram ends in the middle of it."""
    for size in range(len(datagram(CLOSED))):
        slots = Slots([datagram(CLOSED)], [datagram(CLOSED)], [datagram(CLOSED)[:size]])
        reader = EventReader(slots, FAMILY)
        assert receive(reader) == receive(reader) == ([CLOSED], [])
        events, errors = receive(reader)
        assert events == []
        assert len(errors) == (size > 0)


def test_unknown_attributes_are_told_once_each() -> None:
    body = mptcp_event.build(CLOSED) + attrs.build([(99, b""), (100, b"x")])
    told: list[int] = []
    bodies = [body, *(body + attrs.build([(kind, b"")]) for kind in range(101, 300))]
    first, *more = (messages.build(FAMILY, 0, 0, 0, one) for one in bodies)
    slots = Slots([first] * 2, *([one] for one in more))
    reader = EventReader(slots, FAMILY, told.append)
    assert receive(reader) == ([CLOSED, CLOSED], [])
    assert told == [99, 100]
    for _each in more:
        assert receive(reader) == ([CLOSED], [])
    assert told == list(range(99, 99 + 64))  # and no more: a list without end would be memory


class Hasty:
    """Takes what it is offered, or all but that, and notes it."""

    def __init__(self, takes: bool) -> None:
        self.takes = takes
        self.offered: list[tuple[object, ...]] = []

    def _offer(self, *what: object) -> bool:
        self.offered.append(what)
        return self.takes

    def created(
        self, token: int, path: bytes, flags: int | None, server_side: int | None
    ) -> bool:
        return self._offer("created", token, path, flags, server_side)

    def established(self, token: int) -> bool:
        return self._offer("established", token)

    def closed(self, token: int) -> bool:
        return self._offer("closed", token)


ENDS = {"local_ip": b"abcd", "local_port": 258, "remote_ip": b"efgh", "remote_port": 259}
CREATED = Event(u.MPTCP_EVENT_CREATED, 1, family=2, flags=3, server_side=1, **ENDS)  # type: ignore[arg-type]
ESTABLISHED = Event(u.MPTCP_EVENT_ESTABLISHED, 1, family=2, **ENDS)  # type: ignore[arg-type]


@pytest.mark.parametrize("takes", [True, False])
def test_quick_takes_an_event_or_leaves_it(takes: bool) -> None:
    """What is offered is of a shape that was seen before; what is not taken comes as ever."""
    events = [CREATED, ESTABLISHED, REMOVED, CLOSED]
    batch = [datagram(event) for event in events]
    reader = EventReader(Slots(batch, batch), FAMILY)
    for round in range(2):
        hasty = Hasty(takes)
        taken: list[Event] = []
        assert reader.receive(taken.append, lambda error: None, hasty) == 4
        offered: list[tuple[object, ...]] = [("closed", 7)]
        if round:
            path = b"abcd\1\2efgh\1\3"
            offered = [("created", 1, path, 3, 1), ("established", 1), *offered]
        assert hasty.offered == offered
        names = {event[0] for event in offered} if takes else set()
        assert taken == [
            event for event in events if event.name[12:].lower() not in names
        ]
    assert reader.events == 8


def test_quick_is_offered_nothing_malformed() -> None:
    """A length that is known, with an attribute header that is not."""
    good = datagram(ESTABLISHED)
    bad = bytearray(good)
    assert bad[28:32] == nlattr.pack(6, u.MPTCP_ATTR_FAMILY)  # behind the token
    bad[28:32] = nlattr.pack(7, u.MPTCP_ATTR_FAMILY)
    hasty = Hasty(True)
    errors: list[DecodeError] = []
    events: list[Event] = []
    reader = EventReader(Slots([good], [bytes(bad)], [good]), FAMILY)
    for _batch in range(3):
        reader.receive(events.append, errors.append, hasty)
    assert hasty.offered == [("established", 1)]
    assert (len(events), len(errors)) == (1, 1)


def test_quick_is_asked_only_of_what_begins_with_a_token() -> None:
    """Another kernel may order attributes otherwise; what stands first then is no token."""
    sent = attrs.split(mptcp_event.build(ESTABLISHED), genl.HEADER)
    body = genl.header(ESTABLISHED.kind) + attrs.build(sorted(sent, reverse=True))
    data = messages.build(FAMILY, 0, 0, 0, body)
    reader = EventReader(Slots([data], [data]), FAMILY)
    for _learning_then_known in range(2):
        hasty = Hasty(True)
        events: list[Event] = []
        reader.receive(events.append, lambda error: None, hasty)
        assert (events, hasty.offered) == ([ESTABLISHED], [])


def test_an_overrun_goes_through() -> None:
    class Lost:
        memory = memoryview(b"")

        def batch(self) -> list[tuple[int, int]]:
            raise Overrun("lost")

    with pytest.raises(Overrun):
        EventReader(Lost(), FAMILY).receive(lambda event: None, lambda error: None)


class Closings:
    """``Quick`` for CLOSED alone: which tokens it was given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def created(self, *_event: object) -> bool:
        return False

    def established(self, token: int) -> bool:
        return False

    def closed(self, token: int) -> bool:
        self.tokens.append(token)
        return True


def test_what_the_quick_way_must_not_take() -> None:
    """A CLOSED that says to be longer than what came, and one with a broken attribute behind."""
    whole = datagram(CLOSED)
    longer = (len(whole) + 8).to_bytes(4, sys.byteorder) + whole[4:]
    broken = messages.build(
        FAMILY, 0, 0, 0, mptcp_event.build(CLOSED) + nlattr.pack(2, u.MPTCP_ATTR_ERROR)
    )
    quick = Closings()
    errors: list[DecodeError] = []
    reader = EventReader(Slots([longer, broken, whole]), FAMILY)
    assert reader.receive(lambda event: pytest.fail(f"{event}"), errors.append, quick) == 3
    assert len(errors) == 2
    assert quick.tokens == [CLOSED.token]

"""Claim: a parser's time and memory grow with its input and no faster, whatever is in it.

For each parser and each kind of hostile input as long as a receive buffer: lines that the parser
runs are counted, as a number that no other load on the machine can change, and so is the most
memory that it holds; both have a bound for each byte of input. What runs inside one line (a copy of
the rest at each step would be quadratic, and one line) shows in CPU time, which is compared with
that of a smaller input, with much room, as only its order counts.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from mptcpd.nl import messages, mptcp_event
from tests.fuzz import damage, parsers
from tests.fuzz.nl_input import attribute, nested

SIZE = 32768  # bytes
# For each byte of input, at most; an attribute of 4 bytes takes 7 lines, and becomes a tuple, a
# number, a payload and perhaps an entry in a dictionary; a regular expression may keep its place
# at each character.
LINES, HELD = 10, 200


def whole(piece: bytes, size: int) -> bytes:
    return piece * (size // len(piece))


def headed(message: bytes, rest: bytes) -> bytes:
    """The fixed headers of a captured payload, then ``rest``."""
    return message[messages.HEADER : damage.start(message)] + rest


def multipath(size: int) -> bytes:
    """RTA_MULTIPATH with as many next hops as fit, in attributes of at most 64 KiB."""
    hop = (8).to_bytes(2, sys.byteorder) + bytes(6)
    return whole(attribute(9, hop * 500), size)


def groups(size: int) -> bytes:
    """nlctrl's answer with ever more multicast groups."""
    names = [b"g%d\0" % number for number in range(size // 28)]
    group = [
        attribute(number & 0xFF, attribute(1, name) + attribute(2, bytes(4)))
        for number, name in enumerate(names)
    ]
    parts = [b"".join(group[start : start + 1500]) for start in range(0, len(group), 1500)]
    return attribute(2, b"mptcp_pm\0") + attribute(1, bytes(2)) + b"".join(
        attribute(7, part) for part in parts
    )  # fmt: skip


# Kinds of attributes, or of lines, that there may be too many of.
ROWS: dict[str, Callable[[int], bytes]] = {
    "empty attributes": lambda size: whole(attribute(5000, b""), size),
    "one known attribute": lambda size: whole(attribute(1, bytes(4)), size),
    "all kinds": lambda size: b"".join(
        attribute(index & 0x3FFF, b"") for index in range(size // 4)
    ),
    "one long attribute": lambda size: whole(attribute(3, bytes(4092)), size),
    "deep nests": lambda size: whole(nested(300, 4, bytes(4)), size),
    "next hops": multipath,
    "groups": groups,
    "small messages": lambda size: whole(messages.build(28, 0, 1, 2, b""), size),
    "empty lines": lambda size: b"\n" * size,
    "lines that go on": lambda size: b"[Service]\n" + b"k=\\\n" * (size // 4),
    "quotes": lambda size: b"\"\\\"'" * (size // 4),
    "quotes apart": lambda size: b"\"a ' b " * (size // 7),
    "semicolons": lambda size: b"; " * (size // 2),
    "keys": lambda size: b"[a]\n" + b"".join(b"k%d=v\n" % n for n in range(size // 8)),
    "sections": lambda size: b"".join(b"[s%d]\n" % n for n in range(size // 8)),
    "list": lambda size: b"[core]\nload-plugins=" + b",".join(b"p%d" % n for n in range(size // 5)),
}

# Headers of every length in front of the rows, so that all parsers get beyond their own. Errors
# hold requests of many lengths: one will do.
HEADS = {
    place: data
    for data in parsers.EVENTS + parsers.REPLIES
    if (place := damage.start(data)) in (20, 24, 28, 32, 36, 88)
}.values()


def lines(call: Callable[[], Any]) -> int:
    """Lines of Python that ``call`` runs."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def memory(call: Callable[[], Any]) -> int:
    """The most bytes that ``call`` holds at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seconds(call: Callable[[], Any]) -> float:
    """CPU time of ``call``, the better of two, of what nobody has seen before."""
    best = float("inf")
    for _try in range(2):
        parsers.forget()
        start = time.thread_time()
        call()
        best = min(best, time.thread_time() - start)
    return best


def calls(name: str, head: bytes, row: str, size: int) -> Callable[[], Any]:
    parser = parsers.PARSERS[name]
    data = ROWS[row](size)
    if not parser.text and name != "messages.split":
        data = headed(head, data)
    return lambda: parsers.outcome(parser, data)


@pytest.mark.parametrize("name", parsers.PARSERS)
def test_steps_and_memory(name: str) -> None:
    text = parsers.PARSERS[name].text
    for row in ROWS:
        for head in list(HEADS)[:1] if text else HEADS:
            call = calls(name, head, row, SIZE)
            assert lines(call) <= LINES * SIZE, row
            parsers.forget()
            assert memory(call) <= HELD * SIZE, row


@pytest.mark.parametrize("name", parsers.PARSERS)
def test_time(name: str) -> None:
    """What is quadratic takes up to 256 times as long for 16 times the input; 64 is the limit.

    A machine that is busy can make a try take longer, but not all of them.
    """
    parser = parsers.PARSERS[name]
    # Behind a header that is its own: behind another one it would soon give up.
    own = parsers.takes(name, parsers.EVENTS + parsers.REPLIES) if not parser.text else []
    head = own[0] if own and not name.startswith("attrs.") else parsers.EVENTS[0]
    for row in ROWS:
        small, large = (calls(name, head, row, SIZE * 4 // part) for part in (16, 1))
        tries: list[float] = []
        while not tries or (tries[-1] > 64 and len(tries) < 8):
            tries.append(seconds(large) / max(seconds(small), 2e-4))
        assert tries[-1] <= 64, (row, tries)


def test_new_shapes_are_learnt_in_bounds() -> None:
    """Ever new shapes make no table grow."""
    for kind in range(256):
        data = bytes([kind, 1, 0, 0]) + attribute(1, bytes(4)) + attribute(17, bytes(4))
        parsers.outcome(parsers.PARSERS["mptcp_event.parse"], data)
    layouts = mptcp_event._LAYOUTS
    assert len(layouts._known) == layouts.MOST

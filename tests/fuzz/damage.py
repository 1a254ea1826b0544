"""Damage for netlink messages: attributes dropped, repeated, reordered, cut, lengthened; bytes hit.

Who decides is not known here: ``choose(low, high)`` is a draw of hypothesis in the tests and a
random number in the hunt, so that both do the same kinds of damage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from struct import Struct
from typing import Any

from mptcpd.nl import uapi as u

Choose = Callable[[int, int], int]  # a number from low to high, both included
# An attribute: type with its flags, and its bytes or the attributes inside.
Node = tuple[int, "bytes | list[Any]"]

_ATTRIBUTE = Struct("=HH")
_MESSAGE = 16  # bytes of struct nlmsghdr
_TYPE = Struct("=4xH")
# Bytes of the header behind the nlmsghdr, by message type; 4 for genetlink. A number may mean two
# things, as RTM_NEWADDR and SOCK_DIAG_BY_FAMILY, RTM_NEWLINK and nlctrl's own: then that header is
# right behind which attributes follow.
_HEADERS: dict[int, tuple[int, ...]] = {
    u.NLMSG_ERROR: (20,), u.NLMSG_DONE: (4,), u.RTM_NEWLINK: (16, 4), u.RTM_DELLINK: (16,),
    u.RTM_NEWADDR: (8, 72), u.RTM_DELADDR: (8,), u.RTM_NEWROUTE: (12,), u.RTM_DELROUTE: (12,),
}  # fmt: skip
# Lengths, flags and signs change at these.
NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 0x7F, 0x80, 0xFF)


def start(message: bytes) -> int:
    """Where the attributes of a whole message begin."""
    if len(message) < _MESSAGE:
        return len(message)
    kind = _TYPE.unpack_from(message)[0]
    places = [_MESSAGE + size for size in _HEADERS.get(kind, (4,))]
    if kind == u.NLMSG_ERROR:  # it may hold all of what was refused
        places.append(20 + (int.from_bytes(message[20:24], sys.byteorder) + 3 & ~3))
    for place in places:
        if grow(message[place:]):
            return place
    return min(len(message), places[0])


def grow(data: bytes) -> list[Node] | None:
    """The attributes that ``data`` consists of, or None where it is none: a string, a number.

    What can be read as attributes is taken for a nest, as many nests carry no flag.
    """
    offset, found = 0, []
    while offset < len(data):
        if len(data) - offset < 4:
            return None
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not 4 <= length <= len(data) - offset:
            return None
        payload = data[offset + 4 : offset + length]
        inside = grow(payload) if len(payload) >= 4 else None
        found.append((kind, payload if inside is None else inside))
        offset += (length + 3) & ~3
    return found


def flat(row: list[Node]) -> bytes:
    """The bytes of a tree, all lengths right (those beyond 16 bits are cut)."""
    parts: list[bytes] = []
    for kind, inside in row:
        payload = inside if isinstance(inside, bytes) else flat(inside)
        parts += _ATTRIBUTE.pack((4 + len(payload)) & 0xFFFF, kind), payload
        parts.append(bytes(-len(payload) & 3))
    return b"".join(parts)


def _payload(row: list[Node], place: int) -> bytes:
    inside = row[place][1]
    return inside if isinstance(inside, bytes) else flat(inside)


def _drop(row: list[Node], place: int, choose: Choose) -> None:
    del row[place]


def _repeat(row: list[Node], place: int, choose: Choose) -> None:
    row.insert(choose(0, len(row)), row[place])


def _swap(row: list[Node], place: int, choose: Choose) -> None:
    other = choose(0, len(row) - 1)
    row[place], row[other] = row[other], row[place]


def _cut(row: list[Node], place: int, choose: Choose) -> None:
    payload = _payload(row, place)
    row[place] = row[place][0], payload[: choose(0, len(payload))]


def _lengthen(row: list[Node], place: int, choose: Choose) -> None:
    more = bytes(NUMBERS[choose(0, len(NUMBERS) - 1)] for _ in range(choose(1, 8)))
    row[place] = row[place][0], _payload(row, place) + more


def _retype(row: list[Node], place: int, choose: Choose) -> None:
    row[place] = choose(0, 24) | (choose(0, 3) << 14), row[place][1]


def _turn(row: list[Node], place: int, choose: Choose) -> None:
    row[place] = row[place][0], _payload(row, place)[::-1]


def _nest(row: list[Node], place: int, choose: Choose) -> None:
    row[place] = row[place][0], [row[place]]


def _strike(row: list[Node], place: int, choose: Choose) -> None:
    payload = bytearray(_payload(row, place))
    if payload:
        payload[choose(0, len(payload) - 1)] ^= 1 << choose(0, 7)
    row[place] = row[place][0], bytes(payload)


_ATTRIBUTE_DAMAGE = (_drop, _repeat, _swap, _cut, _lengthen, _retype, _turn, _nest, _strike)


def shaken(message: bytes, choose: Choose) -> bytes:
    """A message with its attributes damaged, and its own length right."""
    begin = start(message)
    tree = grow(message[begin:])
    if not tree:
        return message
    for _each in range(choose(1, 3)):
        row = tree
        place = choose(0, len(row) - 1)
        while isinstance(inside := row[place][1], list) and inside and choose(0, 2):
            inside = list(inside)  # a repeated attribute would else be damaged twice
            row[place] = row[place][0], inside
            row, place = inside, choose(0, len(inside) - 1)
        _ATTRIBUTE_DAMAGE[choose(0, len(_ATTRIBUTE_DAMAGE) - 1)](row, place, choose)
        if not tree:
            break
    return with_length(message[:begin] + flat(tree))


def with_length(message: bytes) -> bytes:
    """The message with the nlmsg_len that it should have."""
    return len(message).to_bytes(4, sys.byteorder) + message[4:]


def hit(message: bytes, choose: Choose) -> bytes:
    """Any bytes with a few of them changed, cut, doubled or put in."""
    data = bytearray(message)
    for _each in range(choose(0, 3)):
        place = choose(0, len(data))
        match choose(0, 5):
            case 0 | 1 if place < len(data):
                data[place] = NUMBERS[choose(0, len(NUMBERS) - 1)]
            case 2:
                del data[place:]
            case 3:
                del data[place : place + choose(1, 8)]
            case 4:
                data[place:place] = bytes(choose(0, 255) for _ in range(choose(1, 8)))
            case 5:
                data[place:place] = data[place : place + choose(1, 24)]
            case _:
                pass
    return bytes(data)


def damaged(message: bytes, choose: Choose) -> bytes:
    """A message of a kernel after something bad has happened to it; sometimes nothing has."""
    how = choose(0, 7)
    if how & 1:
        message = shaken(message, choose)
    if how & 2:
        message = hit(message, choose)
        if how & 4 and len(message) >= _MESSAGE:
            message = with_length(message)  # so that damage further in is reached
    return message

"""The attribute codec in plain form: attributes to bytes and back, one at a time.

Knows struct nlattr; must not know what any attribute means. ``_attrs`` does the same faster and is
tested against this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct

from mptcpd.nl.errors import DecodeError
from mptcpd.nl.uapi import NLA_F_NESTED, NLA_F_NET_BYTEORDER

_HEADER = Struct("=HH")
TYPE_MASK = 0xFFFF & ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER)
MAX_PAYLOAD = 0xFFFF - _HEADER.size

# What an attribute carries when we build it: its bytes, or the attributes of a nest.
Payload = bytes | Sequence[tuple[int, "Payload"]]


def parse(buf: bytes, start: int = 0) -> dict[int, bytes]:
    """Split ``buf[start:]``, which must hold whole attributes, by type.

    Shape   u16 nla_len, u16 nla_type, payload, pad; header in host byte order.
            nla_len counts header and payload, not the pad; the last pad may be missing.
    Units   offsets, lengths and sizes are bytes.
    Errors  DecodeError, naming the offset, whatever the input; nothing else.
    Source  linux/netlink.h: struct nlattr; net/netlink.h: nla_ok, nla_next.

    A type seen twice keeps its last payload, as the kernel's own parser does. Up to three bytes
    too few for a header are ignored, as the kernel's parser ignores them.
    """
    found: dict[int, bytes] = {}
    for kind, payload in split(buf, start):
        found[kind] = payload
    return found


def split(buf: bytes, start: int = 0) -> list[tuple[int, bytes]]:
    """As ``parse``, but every attribute in its order (for arrays, where types repeat)."""
    end = len(buf)
    found: list[tuple[int, bytes]] = []
    offset = start
    while end - offset >= _HEADER.size:
        length, kind = _HEADER.unpack_from(buf, offset)
        if length < _HEADER.size:
            raise DecodeError(f"attribute at offset {offset}: length {length} is below its header")
        if length > end - offset:
            raise DecodeError(
                f"attribute at offset {offset}: length {length}, but {end - offset} bytes are left"
            )
        found.append((kind & TYPE_MASK, bytes(buf[offset + _HEADER.size : offset + length])))
        offset += (length + 3) & ~3
    return found


def build(attributes: Iterable[tuple[int, Payload]]) -> bytes:
    """The inverse of ``split``: attributes in order, padded; a nest carries NLA_F_NESTED.

    Errors  ValueError if a payload is longer than the u16 length allows (65,531 bytes) or a type
            does not fit into 14 bits: a fault of the caller, never of the outside.
    """
    parts: list[bytes] = []
    for kind, payload in attributes:
        if not 0 <= kind <= TYPE_MASK:
            raise ValueError(f"attribute type {kind} does not fit into 14 bits")
        if not isinstance(payload, bytes):
            payload, kind = build(payload), kind | NLA_F_NESTED
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"attribute {kind & TYPE_MASK}: {len(payload)} bytes of payload")
        length = _HEADER.size + len(payload)
        parts.append(_HEADER.pack(length, kind))
        parts.append(payload)
        parts.append(bytes(-length & 3))
    return b"".join(parts)


_U16 = Struct("=H")
_U32 = Struct("=I")
_S32 = Struct("=i")
_U64 = Struct("=Q")


def _exactly(name: str, payload: bytes, size: int) -> bytes:
    # A scalar has one length. A longer one is not "close enough": reading its first bytes gives
    # another number on a machine of the other byte order.
    if len(payload) != size:
        raise DecodeError(f"{name}: {len(payload)} bytes instead of {size}")
    return payload


def u8(name: str, payload: bytes) -> int:
    """u8, exactly 1 byte. Errors: DecodeError with the attribute's name."""
    return _exactly(name, payload, 1)[0]


def u16(name: str, payload: bytes) -> int:
    """u16 in host byte order, exactly 2 bytes. Errors: DecodeError with the attribute's name."""
    return int(_U16.unpack(_exactly(name, payload, 2))[0])


def be16(name: str, payload: bytes) -> int:
    """u16 in network byte order (ports), exactly 2 bytes. Errors: DecodeError with the name."""
    return int.from_bytes(_exactly(name, payload, 2), "big")


def u32(name: str, payload: bytes) -> int:
    """u32 in host byte order, exactly 4 bytes. Errors: DecodeError with the attribute's name."""
    return int(_U32.unpack(_exactly(name, payload, 4))[0])


def s32(name: str, payload: bytes) -> int:
    """s32 in host byte order, exactly 4 bytes. Errors: DecodeError with the attribute's name."""
    return int(_S32.unpack(_exactly(name, payload, 4))[0])


def u64(name: str, payload: bytes) -> int:
    """u64 in host byte order, exactly 8 bytes. Errors: DecodeError with the attribute's name."""
    return int(_U64.unpack(_exactly(name, payload, 8))[0])


def ip(name: str, payload: bytes, size: int) -> bytes:
    """An IP address in network byte order, ``size`` 4 or 16 bytes. Errors: DecodeError."""
    return _exactly(name, payload, size)


def string(name: str, payload: bytes) -> str:
    """A C string with or without its closing NUL. Errors: DecodeError if a NUL is inside.

    Bytes that are no UTF-8 (an interface name may hold any) are kept as surrogate escapes.
    """
    text = payload[:-1] if payload[-1:] == b"\0" else payload
    if b"\0" in text:
        raise DecodeError(f"{name}: a NUL inside the string")
    return text.decode("utf-8", "surrogateescape")

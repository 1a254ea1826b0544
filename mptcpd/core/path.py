"""Paths (4-tuples) as one bytes object each: small, and a key for dicts.

Knows how both ends of a subflow are packed; must not know what they belong to.

Shape  local IP, local port, remote IP, remote port, all in network order: 12 bytes for IPv4, 36 for
       IPv6. IPv4-mapped addresses become IPv4, so that a subflow has one key whichever event names
       it: the kernel tells of the same socket in both forms.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from mptcpd.core.address import SockAddr, from_packed

_FOUR = Struct(">4sH4sH")
_SIX = Struct(">16sH16sH")
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96 (RFC 4291, 2.5.5.2)


class Ends(Protocol):
    """What holds both ends: an event, or a socket that sock_diag told of."""

    @property
    def local_ip(self) -> bytes | None: ...
    @property
    def local_port(self) -> int | None: ...
    @property
    def remote_ip(self) -> bytes | None: ...
    @property
    def remote_port(self) -> int | None: ...


def pack_path(ends: Ends) -> bytes:
    """The path of an event or of a socket."""
    local, remote = ends.local_ip, ends.remote_ip
    assert local is not None and remote is not None  # the parser requires them
    if len(local) == 4:
        return _FOUR.pack(local, ends.local_port or 0, remote, ends.remote_port or 0)
    return normal(_SIX.pack(local, ends.local_port or 0, remote, ends.remote_port or 0))


def normal(path: bytes) -> bytes:
    """A packed path with IPv4-mapped addresses made IPv4."""
    if len(path) == 36 and path.startswith(_MAPPED) and path.startswith(_MAPPED, 18):
        return path[12:18] + path[30:]
    return path


def path_of(local: SockAddr, remote: SockAddr) -> bytes:
    """The path between two addresses of one family. Errors: ValueError for two families."""
    if local.ip.version != remote.ip.version:
        raise ValueError(f"{local} and {remote} are not of one address family")
    form = _FOUR if local.ip.version == 4 else _SIX
    return form.pack(local.packed, local.port, remote.packed, remote.port)


def unpack_path(path: bytes) -> tuple[SockAddr, SockAddr]:
    """Local and remote end."""
    return unpack_local(path), unpack_remote(path)


def unpack_local(path: bytes) -> SockAddr:
    """The local end alone."""
    size = len(path) // 2
    return from_packed(path[: size - 2], int.from_bytes(path[size - 2 : size], "big"))


def unpack_remote(path: bytes) -> SockAddr:
    """The remote end alone."""
    return from_packed(path[len(path) // 2 : -2], int.from_bytes(path[-2:], "big"))

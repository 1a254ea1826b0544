"""Who is at the other end of the control socket, and whether they may use it.

Knows SO_PEERCRED and SO_PEERGROUPS; must not know what they want.
"""

from __future__ import annotations

import os
import socket
from struct import Struct
from typing import NamedTuple

from mptcpd.nl._attrs import ORDER

_UCRED = Struct("@iII")  # pid, uid, gid: include/linux/socket.h
_SO_PEERGROUPS = 59  # asm-generic/socket.h, Linux 4.13
_GROUPS = 1024  # bytes: 256 groups; Python's getsockopt refuses to ask for more


class Peer(NamedTuple):
    """The process that connected, as it was then. ``groups``: all of its groups."""

    pid: int
    uid: int
    groups: frozenset[int]


def peer_of(sock: socket.socket) -> Peer:
    """Who connected. Errors: OSError."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    try:
        more = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS)
    except OSError:
        more = b""  # an old kernel, or more than 256 groups: then only the first one counts
    groups = (int.from_bytes(more[at : at + 4], ORDER) for at in range(0, len(more), 4))
    return Peer(pid, uid, frozenset({gid, *groups}))


def may_use(peer: Peer, group: int | None) -> bool:
    """Root, the daemon's own user, and the members of the configured group."""
    return peer.uid in (0, os.geteuid()) or (group is not None and group in peer.groups)

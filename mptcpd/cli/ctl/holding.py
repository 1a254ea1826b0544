"""listen, and announce with listen: an MPTCP socket that listens until somebody ends it.

Knows how to listen; must not know who announces. A peer's join to an announced port is taken by the
kernel as long as an MPTCP socket listens there; who connects without joining is turned away.
"""

from __future__ import annotations

import socket
from struct import Struct

from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.ending import Ending
from mptcpd.cli.ctl.endpoint import shown_ip
from mptcpd.cli.ctl.errors import REFUSED, Failure
from mptcpd.nl.uapi import IPPROTO_MPTCP

_BACKLOG = 128
_LINGER = Struct("@ii").pack(1, 0)  # close with a reset
_PAUSE = 1.0  # seconds, when there is no room for a stranger


def listen(call: Call) -> int:
    args = call.args
    with listener(args["address"], args.get("port", 0), args.get("dev")) as sock:
        hold(call, sock)
    return 0


def listener(ip: bytes, port: int, ifindex: int | None = None) -> socket.socket:
    """An MPTCP socket that listens; port 0 means one of the kernel's choice.

    ifindex  bound to this interface. Errors: Failure with the system's words.
    """
    text = shown_ip(ip)[0]
    family = socket.AF_INET if len(ip) == 4 else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, IPPROTO_MPTCP)
    except OSError as error:
        raise Failure(f"Error: no MPTCP socket here: {error.strerror}.", REFUSED) from None
    try:
        sock.setblocking(False)
        # Joins that came through an earlier socket keep the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Otherwise a socket on :: would also take the port on every IPv4 address.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if ifindex is not None:
            name = socket.if_indextoname(ifindex)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        scope = ifindex or 0
        sock.bind((text, port) if family == socket.AF_INET else (text, port, 0, scope))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise Failure(
            f"Error: cannot listen on {text} port {port}: {error.strerror}.", REFUSED
        ) from None
    return sock


def hold(call: Call, sock: socket.socket) -> None:
    """Print the port, and keep the socket until SIGINT or SIGTERM."""
    address, port = sock.getsockname()[:2]
    if call.settings.json:
        call.out.json({"address": address, "port": port})
    else:
        call.out.line(str(port))
    with Ending() as ending:
        call.out.flush()
        ending.watch(sock.fileno())
        while not ending.came:
            if ending.wait() and not _turn_away(sock):
                ending.pause(sock.fileno(), _PAUSE)


def _turn_away(sock: socket.socket) -> bool:
    """Reset who connected without joining; False when there is no room to take one out."""
    try:
        stranger, _address = sock.accept()
    except (BlockingIOError, ConnectionAbortedError):
        return True
    except OSError:
        return False
    with stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    return True

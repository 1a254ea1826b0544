"""What of the kernel the commands about connections need, opened in one place.

Knows which sockets that takes; must not know what is asked.
"""

from __future__ import annotations

from mptcpd.cli.ctl.ends import Interfaces
from mptcpd.cli.ctl.which_pm import PathManagers
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient, RouteClient
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.errors import Unavailable
from mptcpd.nl.sock import CommandSocket


def dumps() -> DiagClient:
    """sock_diag. Errors: Unavailable, OSError."""
    return DiagClient(CommandSocket(u.NETLINK_SOCK_DIAG))


def interfaces() -> Interfaces:
    """Interfaces and their addresses as they are now. Errors: NetlinkError, OSError."""
    found = Interfaces(RouteClient(CommandSocket(u.NETLINK_ROUTE)))
    found.refresh()
    return found


def mptcp() -> MptcpClient:
    """mptcp_pm. Errors: Unavailable, OSError."""
    return MptcpClient(CommandSocket(u.NETLINK_GENERIC))


def path_managers() -> PathManagers:
    """Who tells which path manager a connection has. Errors: OSError."""
    try:
        return PathManagers(mptcp())
    except Unavailable:
        return PathManagers(None)

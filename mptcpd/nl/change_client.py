"""Sends the requests of ``rtnl_change``. The daemon imports nothing from here either.

Knows which attribute names belong to which request, for errors; must not know what a change is for.
"""

from __future__ import annotations

from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import fib_rule_hdr, ifaddrmsg, ifinfomsg, rtmsg, tcmsg
from mptcpd.nl.client import Commands
from mptcpd.nl.exchange import Names
from mptcpd.nl.rtnl_change import Change


def _names(prefix: str, nested: str = "-") -> Names:
    return {
        value: (name, {})
        for name, value in vars(u).items()
        if name.startswith(prefix) and not name.startswith(nested)
    }


# For errors, message type -> its name, bytes of the family's header, attribute names.
_KINDS: dict[int, tuple[str, int, Names]] = {
    getattr(u, name): (name, header.size, names)
    for header, names, kinds in (
        (ifinfomsg, _names("IFLA_", "IFLA_INFO_"), "RTM_NEWLINK RTM_SETLINK RTM_DELLINK"),
        (ifaddrmsg, _names("IFA_", "IFA_F_"), "RTM_NEWADDR RTM_DELADDR"),
        (rtmsg, _names("RTA_"), "RTM_NEWROUTE RTM_DELROUTE"),
        (fib_rule_hdr, _names("FRA_"), "RTM_NEWRULE RTM_DELRULE"),
        (tcmsg, _names("TCA_", "TCA_TBF_"), "RTM_NEWQDISC RTM_DELQDISC"),
    )
    for name in kinds.split()
}


class ChangeClient:
    """Carries changes out on a command socket of NETLINK_ROUTE."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def make(self, change: Change) -> None:
        """Returns when the kernel has done it.

        Errors  KernelError with the kernel's words; NetlinkError for an answer that is none.
        """
        command, header, names = _KINDS[change.kind]
        self._commands.request(
            change.kind, change.body, command, names, flags=change.flags, header=header
        )

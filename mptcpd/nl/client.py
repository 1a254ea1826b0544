"""Asks the kernel one thing and returns its answer as a value: codec and command socket joined.

Knows which request belongs to which parser; must not know policy, nor keep state between calls
beyond the socket and the family's ID. Every method returns when the kernel has answered.
"""

from __future__ import annotations

import errno
from typing import Protocol

from mptcpd.nl import genl, mptcp, rtnl, rtnl_rule
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError, Unavailable
from mptcpd.nl.exchange import Names


class Commands(Protocol):
    """What a client needs of a command socket: ``sock.CommandSocket``, or a fake."""

    def query(
        self, kind: int, body: bytes, command: str, names: Names | None = None
    ) -> bytes: ...

    def request(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, flags: int = u.NLM_F_ACK, header: int = 4,
    ) -> list[bytes]: ...  # fmt: skip

    def dump(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, header: int = 4,
    ) -> list[bytes]: ...  # fmt: skip


class MptcpClient:
    """The mptcp_pm family's commands.

    Errors  of every method: KernelError with the kernel's words; DecodeError and NetlinkError for
            an answer that is none; ValueError for an argument that does not fit its attribute.
    """

    def __init__(self, commands: Commands) -> None:
        """Look the family up. Errors: Unavailable when the kernel has no mptcp_pm."""
        self._commands = commands
        try:
            answer = commands.query(
                u.GENL_ID_CTRL, genl.get_family(u.MPTCP_PM_NAME), "CTRL_CMD_GETFAMILY"
            )
        except KernelError as error:
            raise Unavailable(f"the kernel has no {u.MPTCP_PM_NAME} family: {error}") from error
        self.family = genl.parse_family(answer)
        self._id = self.family.id

    @property
    def events_group(self) -> int:
        """The ID of the multicast group mptcp_pm_events. Errors: Unavailable before Linux 5.12."""
        if u.MPTCP_PM_EV_GRP_NAME not in self.family.groups:
            raise Unavailable(f"the kernel's {u.MPTCP_PM_NAME} has no {u.MPTCP_PM_EV_GRP_NAME}")
        return self.family.groups[u.MPTCP_PM_EV_GRP_NAME]

    def _do(self, body: bytes) -> None:
        self._commands.request(self._id, body, mptcp.COMMANDS[body[0]], mptcp.NAMES)

    def add_addr(self, endpoint: mptcp.Address) -> None:
        self._do(mptcp.add_addr(endpoint))

    def del_addr(self, endpoint: mptcp.Address) -> None:
        self._do(mptcp.del_addr(endpoint))

    def get_addr(self, ident: int, token: int | None = None) -> mptcp.Address:
        body = mptcp.get_addr(ident, token)
        answer = self._commands.query(self._id, body, "MPTCP_PM_CMD_GET_ADDR", mptcp.NAMES)
        return mptcp.parse_address(answer)

    def dump_addrs(self, token: int | None = None) -> list[mptcp.Address]:
        body = mptcp.dump_addrs(token)
        answers = self._commands.dump(self._id, body, "MPTCP_PM_CMD_GET_ADDR", mptcp.NAMES)
        return [mptcp.parse_address(answer) for answer in answers]

    def flush_addrs(self) -> None:
        self._do(mptcp.flush_addrs())

    def set_limits(
        self, subflows: int | None = None, add_addr_accepted: int | None = None
    ) -> None:
        self._do(mptcp.set_limits(subflows, add_addr_accepted))

    def get_limits(self) -> mptcp.Limits:
        return mptcp.parse_limits(
            self._commands.query(
                self._id, mptcp.get_limits(), "MPTCP_PM_CMD_GET_LIMITS", mptcp.NAMES
            )
        )

    def set_flags(
        self,
        address: mptcp.Address,
        remote: mptcp.Address | None = None,
        token: int | None = None,
    ) -> None:
        self._do(mptcp.set_flags(address, remote, token))

    def announce(self, token: int, address: mptcp.Address) -> None:
        self._do(mptcp.announce(token, address))

    def remove(self, token: int, ident: int) -> None:
        self._do(mptcp.remove(token, ident))

    def subflow_create(self, token: int, local: mptcp.Address, remote: mptcp.Address) -> None:
        self._do(mptcp.subflow_create(token, local, remote))

    def subflow_destroy(self, token: int, local: mptcp.Address, remote: mptcp.Address) -> None:
        self._do(mptcp.subflow_destroy(token, local, remote))


class RouteClient:
    """What rtnetlink tells about links, addresses and routes. Errors as for MptcpClient."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def links(self) -> list[rtnl.Link]:
        answers = self._commands.dump(
            u.RTM_GETLINK, rtnl.get_links(), "RTM_GETLINK", header=rtnl.IFINFOMSG
        )
        return [rtnl.parse_link(u.RTM_NEWLINK, answer) for answer in answers]

    def addresses(self, ifindex: int = 0) -> list[rtnl.Address]:
        """IPv4 and IPv6 addresses, of one interface if given."""
        found = []
        for family in (mptcp.AF_INET, mptcp.AF_INET6):
            body = rtnl.get_addresses(family, ifindex)
            try:
                answers = self._commands.dump(
                    u.RTM_GETADDR, body, "RTM_GETADDR", header=rtnl.IFADDRMSG
                )
            except KernelError as error:
                # A kernel without IPv6 has none to tell of; an interface may just have gone.
                if error.errno in rtnl.NOTHING_THERE:
                    continue
                raise
            for answer in answers:
                address = rtnl.parse_address(u.RTM_NEWADDR, answer)
                if address is not None and ifindex in (0, address.ifindex):
                    found.append(address)
        return found

    def routes(self, family: int) -> list[rtnl.Route]:
        answers = self._commands.dump(
            u.RTM_GETROUTE, rtnl.get_routes(family), "RTM_GETROUTE", header=rtnl.RTMSG
        )
        found = [rtnl.parse_route(u.RTM_NEWROUTE, answer) for answer in answers]
        return [route for route in found if route is not None]

    def rules(self, family: int) -> list[rtnl_rule.Rule]:
        """The routing rules of IPv4 or IPv6."""
        answers = self._commands.dump(
            u.RTM_GETRULE, rtnl_rule.get_rules(family), "RTM_GETRULE", header=rtnl_rule.RULE
        )
        found = [rtnl_rule.parse(answer) for answer in answers]
        return [rule for rule in found if rule is not None]

    def lookup(
        self, dst: bytes, oif: int | None = None, src: bytes | None = None
    ) -> rtnl.Route | None:
        """The route that a packet to ``dst`` would take, None where there is none.

        oif  by this interface; src: from this address (rules may send it to a table of its own)

        IPv6 takes ``oif`` for a mere wish as soon as ``src`` is given (net/ipv6/route.c:
        ip6_route_output_flags), and answers with another interface's better route. A socket that
        is bound to both finds its own all the same, and so does the second question here.
        """
        found = self._lookup(dst, oif, src)
        both = src is not None and oif is not None and len(dst) == 16
        if both and (found is None or oif not in found.oifs):
            return self._lookup(dst, oif, None)
        return found

    def _lookup(self, dst: bytes, oif: int | None, src: bytes | None) -> rtnl.Route | None:
        try:
            answer = self._commands.request(
                u.RTM_GETROUTE, rtnl.get_route(dst, oif, src), "RTM_GETROUTE",
                flags=0, header=rtnl.RTMSG,
            )  # fmt: skip
        except KernelError as error:
            blackhole = error.errno == errno.EINVAL and not error.words
            if blackhole or error.errno in rtnl.NO_ROUTE:
                return None
            raise
        return rtnl.parse_route(u.RTM_NEWROUTE, answer[0])

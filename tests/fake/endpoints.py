"""The kernel's own path manager: endpoints and limits, its rules, its words, its numbers.

Knows what each command does and how it is refused; must not know netlink (``mptcp_pm`` does). What
endpoints do to connections is not in here.

Source  net/mptcp/pm_kernel.c (Linux 6.18), and what earlier kernels said instead.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address

from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import FLAGS, Limits

ADDR = "MPTCP_PM_ATTR_ADDR"
_CHANGEABLE = FLAGS["backup"] | FLAGS["fullmesh"]
# How a refused endpoint reads: errno and words for the reason that is in both where it can be seen.
STYLES = ("6.18", "6.6", "5.15")


class EndpointTable:
    """Endpoints and limits.

    room   endpoints it takes             most      the greatest limit it takes
    style  one of STYLES                  commands  what was asked of it, without look-ups
    is_local  whether the host has this address; a port can be had only there
    listens   called when the kernel begins or ends to listen for an endpoint with a port
    """

    def __init__(self, *, room: int = 8, most: int = 8, style: str = "6.18") -> None:
        self.is_local: Callable[[bytes], bool] = lambda ip: True
        self.listens: Callable[[mptcp.Address, bool], None] = lambda endpoint, begins: None
        self.room = room
        self.most = most
        self.style = style
        self.commands: list[str] = []
        self.endpoints: dict[int, mptcp.Address] = {}
        self.current = Limits(add_addr_accepted=0, subflows=2)
        self._next = 1
        self.fails: list[Exception] = []  # raised, one after the other, by what is asked next

    def have(self, text: str, ident: int, flags: str = "", ifindex: int | None = None) -> None:
        """An endpoint that somebody else made."""
        bits = sum(FLAGS[name] for name in flags.split(",") if name)
        self.endpoints[ident] = mptcp.Address(ip_address(text).packed, 0, ident, bits, ifindex)

    def shown(self) -> dict[int, str]:
        """ID -> address, flags and interface of each endpoint."""
        return {
            ident: " ".join(
                [
                    str(ip_address(value.ip or b"")),
                    ",".join(name for name, bit in FLAGS.items() if (value.flags or 0) & bit),
                    f"dev {value.ifindex}" if value.ifindex else "",
                ]
            ).strip()
            for ident, value in sorted(self.endpoints.items())
        }

    def _refuse(self, reason: int) -> KernelError:
        words = "too many addresses or duplicate one"
        if self.style == "5.15":
            return KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.EINVAL, words)
        number = reason if self.style == "6.18" else errno.EINVAL
        return KernelError("MPTCP_PM_CMD_ADD_ADDR", number, f"{words}: -{reason}")

    def _asked(self, text: str) -> None:
        self.commands.append(text)
        if self.fails:
            raise self.fails.pop(0)

    def add_addr(self, endpoint: mptcp.Address) -> None:
        assert endpoint.ip is not None
        flags = endpoint.flags or 0
        self._asked(f"add {ip_address(endpoint.ip)} id {endpoint.id}")
        for wrong, words in (
            (
                endpoint.port and flags & (FLAGS["signal"] | FLAGS["subflow"]) != FLAGS["signal"],
                "flags must have signal and not subflow when using port",
            ),
            (
                flags & FLAGS["signal"] and flags & FLAGS["fullmesh"],
                "flags mustn't have both signal and fullmesh",
            ),
            (flags & FLAGS["implicit"], "can't create IMPLICIT endpoint"),
        ):
            if wrong:
                raise KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.EINVAL, words, ADDR)
        if not endpoint.port:
            self._append(endpoint)
            return
        if not self.is_local(endpoint.ip):
            words = f"create listen socket error: -{errno.EADDRNOTAVAIL}"
            raise KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.EADDRNOTAVAIL, words)
        self.listens(endpoint, True)
        try:
            self._append(endpoint)
        except KernelError:
            self.listens(endpoint, False)
            raise

    def _append(self, endpoint: mptcp.Address) -> None:
        ident = endpoint.id
        if self._next == 255:
            self._next = 1
        if len(self.endpoints) >= self.room:
            raise self._refuse(errno.ERANGE)
        if ident in self.endpoints:
            raise self._refuse(errno.EBUSY)
        for there in list(self.endpoints.values()):
            if (there.ip, there.port) == (endpoint.ip, endpoint.port):
                if not (there.flags or 0) & FLAGS["implicit"]:
                    raise self._refuse(errno.EEXIST)
                if ident:
                    raise self._refuse(errno.EINVAL)
                ident = there.id
        if not ident:
            # From where it gave the last one, and then from the beginning.
            numbers = (*range(self._next, 256), *range(1, self._next))
            ident = next(number for number in numbers if number not in self.endpoints)
        self._next = max(self._next, ident)
        self.endpoints[ident] = endpoint._replace(id=ident)

    def del_addr(self, endpoint: mptcp.Address) -> None:
        self._asked(f"delete id {endpoint.id}")
        if not endpoint.id:
            return  # closes the first subflow of connections from there, if there are any
        if endpoint.id not in self.endpoints:
            raise KernelError("MPTCP_PM_CMD_DEL_ADDR", errno.EINVAL, "address not found", ADDR)
        gone = self.endpoints.pop(endpoint.id)
        if gone.port:
            self.listens(gone, False)

    def get_addr(self, ident: int, token: int | None = None) -> mptcp.Address:
        if ident not in self.endpoints:
            raise KernelError("MPTCP_PM_CMD_GET_ADDR", errno.EINVAL, "address not found", ADDR)
        return self.endpoints[ident]

    def dump_addrs(self, token: int | None = None) -> list[mptcp.Address]:
        return [self.endpoints[ident] for ident in sorted(self.endpoints)]

    def flush_addrs(self) -> None:
        self._asked("flush")
        for gone in self.endpoints.values():
            if gone.port:
                self.listens(gone, False)
        self.endpoints.clear()
        self._next = 1

    def set_limits(
        self, subflows: int | None = None, add_addr_accepted: int | None = None
    ) -> None:
        self._asked(f"limits {subflows} {add_addr_accepted}")
        for name, value in (("RCV_ADD_ADDRS", add_addr_accepted), ("SUBFLOWS", subflows)):
            if (value or 0) > self.most:
                words = "limit greater than maximum"
                if self.style == "6.18":
                    words += f" ({self.most})"
                raise KernelError(
                    "MPTCP_PM_CMD_SET_LIMITS", errno.EINVAL, words, f"MPTCP_PM_ATTR_{name}"
                )
        accepted, before = self.current
        self.current = Limits(
            accepted if add_addr_accepted is None else add_addr_accepted,
            before if subflows is None else subflows,
        )

    def get_limits(self) -> Limits:
        return self.current

    def set_flags(
        self,
        address: mptcp.Address,
        remote: mptcp.Address | None = None,
        token: int | None = None,
    ) -> None:
        self._asked(f"flags {address.flags} id {address.id}")
        command = "MPTCP_PM_CMD_SET_FLAGS"
        if address.ip is None and not address.id:
            raise KernelError(command, errno.EOPNOTSUPP, "missing address ID", ADDR)
        for ident, there in self.endpoints.items():
            same = there.ip == address.ip and there.port in (0, address.port)
            if same if address.ip is not None else ident == address.id:
                flags, wanted = there.flags or 0, address.flags or 0
                fixed = FLAGS["signal"] | FLAGS["implicit"]
                if wanted & FLAGS["fullmesh"] and flags & fixed:
                    raise KernelError(command, errno.EINVAL, "invalid addr flags", ADDR)
                flags = flags & ~_CHANGEABLE | wanted & _CHANGEABLE
                self.endpoints[ident] = there._replace(flags=flags)
                return
        raise KernelError(command, errno.EINVAL, "address not found", ADDR)

"""The kernel's own path manager as far as a plugin can tell: its rules, its words, its numbers.

Source  net/mptcp/pm_kernel.c (Linux 6.18), and what earlier kernels said instead.
"""

from __future__ import annotations

import errno
from ipaddress import ip_address

from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import FLAGS, Limits

# How a refused endpoint reads: errno and words for the reason that is in both where it can be seen.
STYLES = ("6.18", "6.6", "5.15")


class FakeKernel:
    """What ``MptcpClient`` offers for endpoints and limits.

    room   endpoints it takes             most      the greatest limit it takes
    style  one of STYLES                  commands  what was asked of it, without look-ups
    """

    def __init__(self, *, room: int = 8, most: int = 8, style: str = "6.18") -> None:
        self.room = room
        self.most = most
        self.style = style
        self.commands: list[str] = []
        self.endpoints: dict[int, mptcp.Address] = {}
        self.current = Limits(add_addr_accepted=0, subflows=2)
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
        if flags & FLAGS["signal"] and flags & FLAGS["fullmesh"]:
            words = "flags mustn't have both signal and fullmesh"
            raise KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.EINVAL, words)
        ident = endpoint.id
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
            ident = next(number for number in range(1, 256) if number not in self.endpoints)
        self.endpoints[ident] = endpoint._replace(id=ident)

    def del_addr(self, endpoint: mptcp.Address) -> None:
        self._asked(f"delete id {endpoint.id}")
        if endpoint.id not in self.endpoints:
            raise KernelError("MPTCP_PM_CMD_DEL_ADDR", errno.EINVAL, "address not found")
        del self.endpoints[endpoint.id]

    def get_addr(self, ident: int, token: int | None = None) -> mptcp.Address:
        if ident not in self.endpoints:
            raise KernelError("MPTCP_PM_CMD_GET_ADDR", errno.EINVAL, "address not found")
        return self.endpoints[ident]

    def dump_addrs(self, token: int | None = None) -> list[mptcp.Address]:
        return list(self.endpoints.values())

    def flush_addrs(self) -> None:
        self._asked("flush")
        self.endpoints.clear()

    def set_limits(
        self, subflows: int | None = None, add_addr_accepted: int | None = None
    ) -> None:
        self._asked(f"limits {subflows} {add_addr_accepted}")
        if max(subflows or 0, add_addr_accepted or 0) > self.most:
            words = "limit greater than maximum"
            if self.style == "6.18":
                words += f" ({self.most})"
            raise KernelError("MPTCP_PM_CMD_SET_LIMITS", errno.EINVAL, words)
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
        changeable = FLAGS["backup"] | FLAGS["fullmesh"]
        for ident, there in self.endpoints.items():
            same = (there.ip, there.port) == (address.ip, address.port)
            if ident == address.id or (address.id is None and same):
                kept = (there.flags or 0) & ~changeable
                flags = kept | ((address.flags or 0) & changeable)
                self.endpoints[ident] = there._replace(flags=flags)
                return
        raise KernelError("MPTCP_PM_CMD_SET_FLAGS", errno.EINVAL, "address not found")

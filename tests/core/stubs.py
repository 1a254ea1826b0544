"""What tests of the core share: values as the kernel would tell them, and who notes hooks."""

from __future__ import annotations

from ipaddress import ip_address

from mptcpd.core.address import SockAddr
from mptcpd.core.network import Interface
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u

READY = u.IFF_UP | u.IFF_RUNNING


def link(ifindex: int = 2, flags: int = READY, name: str = "", *, gone: bool = False) -> rtnl.Link:
    return rtnl.Link(ifindex, 1, flags, name or f"eth{ifindex}", gone=gone)


def address(
    text: str = "10.0.1.1/24",
    ifindex: int = 2,
    *,
    flags: int = 0,
    scope: int = u.RT_SCOPE_UNIVERSE,
    peer: str | None = None,
    gone: bool = False,
) -> rtnl.Address:
    ip, _, length = text.partition("/")
    return rtnl.Address(
        ifindex,
        ip_address(ip).packed,
        int(length or 24),
        scope,
        flags,
        peer=None if peer is None else ip_address(peer).packed,
        gone=gone,
    )


class Noting:
    """A listener that notes every hook, and checks that they make sense one after the other."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.told: dict[int, list[SockAddr]] = {}

    def taken(self) -> list[str]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls

    def new_interface(self, interface: Interface) -> None:
        assert interface.index not in self.told
        assert interface.addresses == ()
        self.told[interface.index] = []
        self.calls.append(f"new {interface.name}")

    def update_interface(self, interface: Interface) -> None:
        assert interface.index in self.told
        self.calls.append(f"update {interface.name}")

    def delete_interface(self, interface: Interface) -> None:
        assert self.told.pop(interface.index) == []
        assert interface.addresses == ()
        self.calls.append(f"delete {interface.name}")

    def new_local_address(self, interface: Interface, address: SockAddr) -> None:
        assert address not in self.told[interface.index]
        assert address in interface.addresses
        self.told[interface.index].append(address)
        self.calls.append(f"{interface.name} has {address}")

    def delete_local_address(self, interface: Interface, address: SockAddr) -> None:
        self.told[interface.index].remove(address)
        assert address not in interface.addresses
        self.calls.append(f"{interface.name} lost {address}")

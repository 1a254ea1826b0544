"""A client with several uplinks to a server, whose cables can be pulled; and the daemon on it.

A cable that is pulled shows at once here. The kernel (net/core/link_watch.c) may hold a carrier's
change back for up to a second, unless it takes it for urgent; that of a veth is, if the numbers of
its two ends differ, and so the server's begin with others.
"""

from __future__ import annotations

import itertools
import pathlib
import signal
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from lab import Host, Lab, wait_until
from lab.network import Interface, Link
from mptcpd.nl import rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET
from mptcpd.nl.rtnl_change import Change
from tests.kernel.started import Started

_MARKS = itertools.count(1)


class Uplinks:
    """``client`` and ``server`` joined by links ``eth0``, ``eth1``, ...; ends by index.

    The server's end of link N has 10.0.N.2 and fd00:N::2, counted from 1; the client's has what
    ``addresses`` says, in its form without prefix length: ``10.0.1.1`` or ``fd00:1::1``.
    """

    def __init__(self, lab: Lab, *addresses: str | Sequence[str], rate: int | None = None) -> None:
        self.lab = lab
        self.client, self.server = lab.host("client"), lab.host("server")
        # Or the kernel deletes all IPv4 addresses of a network together with the first one.
        self.client.set_sysctl("net.ipv4.conf.all.promote_secondaries", 1)
        for number in range(4):
            spare = rtnl_change.add_veth(
                f"spare{number}", self.server.fd, f"other{number}", self.server.fd
            )
            self.server.change(spare)
        self.links: list[Link] = []
        for texts in addresses:
            self.join(*([texts] if isinstance(texts, str) else texts), rate=rate)

    def join(self, *addresses: str, name: str = "", rate: int | None = None) -> Interface:
        """One more link; the client's end."""
        number = len(self.links)
        theirs = [f"10.0.{number + 1}.2/24", f"fd00:{number + 1}::2/64"]
        ours = [with_length(text) for text in addresses]
        label = name or f"eth{number}"
        self.links.append(
            self.lab.link(self.client, label, ours, self.server, f"e{number}", theirs, rate=rate)
        )
        return self.links[-1].one

    def __getitem__(self, index: int) -> Interface:
        return self.links[index].one

    def pull(self, index: int) -> None:
        """Pull a cable."""
        self.links[index].other.down()

    def plug(self, index: int) -> None:
        """Plug it in again, and wait until the kernel sees the carrier."""
        self.links[index].other.up()
        wait_until(self[index].running, "a carrier")

    def default_route(self, index: int, family: int = AF_INET, **options: Any) -> Change:
        """The request for a default route over a link; without a gateway, whatever addresses."""
        return rtnl_change.add_route(family, oif=self[index].ifindex, **options)

    def addresses(self, index: int) -> dict[str, rtnl.Address]:
        """What the kernel has on an interface: IP -> address."""
        found = self.client.network.addresses(self[index].ifindex)
        return {str(ip_address(address.ip)): address for address in found}


def with_length(text: str) -> str:
    return f"{text}/{64 if ':' in text else 24}"


def default_gone(end: Interface, family: int = AF_INET, **options: Any) -> Change:
    return rtnl_change.delete_route(family, oif=end.ifindex, **options)


def change_address(
    end: Interface, text: str, *, flags: int = u.IFA_F_NODAD, preferred: int = rtnl.FOREVER,
    valid: int = rtnl.FOREVER, peer: str | None = None,
) -> None:  # fmt: skip
    """Add an address, or change its flags and lifetimes."""
    ip, _, length = with_length(text).partition("/")
    far = None if peer is None else ip_address(peer).packed
    change = rtnl_change.add_address(
        end.ifindex, ip_address(ip).packed, 32 if peer else int(length), peer=far, flags=flags,
        preferred=preferred, valid=valid,
    )  # fmt: skip
    end.host.change(change)


class Following(Started):
    """As Started, with --debug, which shows every notification that was taken.

    core  lines for [core] of its configuration file, and for groups after it
    """

    def __init__(
        self, host: Host, folder: pathlib.Path, core: str = "", *, small_buffer: bool = False
    ) -> None:
        super().__init__(
            host,
            folder,
            "--debug",
            core=f"load-plugins=addr_adv\n{core}",
            module="tests.kernel.small_buffer" if small_buffer else "mptcpd.cli.daemon",
        )
        self.until_ready()

    def __enter__(self) -> Following:
        return self

    def caught_up(self) -> None:
        """Wait until it has taken every notification that the kernel sent so far, and acted on it.

        They come in order: an address of lo, which it does not use, is the mark. When a second one
        is seen that was set after the first was seen, the batch with the first has been acted on.
        A mark that is lost in an overrun is set again.
        """
        for _ in range(2):
            wait_until(self._marked, "the daemon has caught up", 10.0)

    def _marked(self) -> bool:
        number = next(_MARKS)
        mark = ip_address(f"127.7.{number >> 8 & 255}.{number & 255}")
        lo = self.host.ifindex("lo")
        with open(self._log, "rb") as log:
            log.seek(0, 2)
            self.host.change(rtnl_change.add_address(lo, mark.packed, 32, scope=u.RT_SCOPE_HOST))
            self.host.change(rtnl_change.delete_address(lo, mark.packed, 32))
            text = b""

            def seen() -> bool:
                nonlocal text
                text += log.read()
                return f"ip {mark} ".encode() in text

            try:
                wait_until(seen, "the mark is seen", 0.5)
            except TimeoutError:
                return False
        return True

    def freeze(self) -> None:
        """It gets no time to run, and notifications pile up."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def times(self, text: str) -> int:
        """How many lines it said with this in them."""
        return sum(text in line for line in self.lines)

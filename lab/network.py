"""Joins hosts by links: veth pairs with addresses, and a rate if wanted."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lab import rights
from lab.host import Host
from lab.wait import wait_until
from mptcpd.nl import rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import AF_INET, AF_INET6

_BURST = 16384  # bytes; more than one packet, so that a late timer costs no rate
_QUEUE = 0.05  # seconds that the queue before a limited link may take


class Interface(NamedTuple):
    """One end of a link."""

    host: Host
    name: str
    ifindex: int

    def up(self) -> None:
        self.host.change(rtnl_change.set_link(self.ifindex, up=True))

    def down(self) -> None:
        """The other end loses its carrier."""
        self.host.change(rtnl_change.set_link(self.ifindex, up=False))

    def running(self) -> bool:
        """Up, and with a carrier: what the kernel and the daemon take for usable."""
        return bool(self.read().flags & u.IFF_RUNNING)

    def read(self) -> rtnl.Link:
        """Its state and byte counters as they are now."""
        return self.host.link(self.ifindex)


class Link(NamedTuple):
    """Two joined interfaces; ``rate`` in bit/s for each direction, None for unlimited."""

    one: Interface
    other: Interface
    rate: int | None


class Lab:
    """A network of hosts. Leaving the ``with`` block kills and removes everything in it."""

    def __init__(self) -> None:
        """Errors: Missing."""
        rights.enter()
        self.hosts: list[Host] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        while self.hosts:
            self.hosts.pop().close()

    def host(self, name: str) -> Host:
        """A new host with nothing but ``lo``."""
        host = Host(name)
        self.hosts.append(host)
        return host

    def link(
        self,
        one: Host,
        name: str,
        addresses: str | Sequence[str],
        other: Host,
        other_name: str,
        other_addresses: str | Sequence[str],
        *,
        rate: int | None = None,
    ) -> Link:
        """Join two hosts by a veth pair, both ends up.

        addresses  ``10.0.1.1/24`` or several such; IPv6 ones are usable at once (no DAD)
        rate       bit/s in each direction, kept by a token bucket filter at both ends
        Errors     Missing: the kernel has no veth or no tbf. KernelError: it refused.
        """
        with _needs("veth", errno.EOPNOTSUPP, "CONFIG_VETH (modprobe veth)"):
            one.change(rtnl_change.add_veth(name, one.fd, other_name, other.fd))
        ends = []
        for host, label, texts in ((one, name, addresses), (other, other_name, other_addresses)):
            end = Interface(host, label, host.ifindex(label))
            for text in (texts,) if isinstance(texts, str) else texts:
                add_address(end, text)
            if rate is not None:
                size = max(_BURST, int(rate / 8 * _QUEUE))
                with _needs("tbf", errno.ENOENT, "CONFIG_NET_SCH_TBF (modprobe sch_tbf)"):
                    host.change(rtnl_change.set_tbf(end.ifindex, rate // 8, _BURST, size))
            ends.append(end)
        for end in ends:
            end.up()
        for end in ends:
            wait_until(end.running, f"{name} running")
        return Link(ends[0], ends[1], rate)


def add_address(end: Interface, text: str) -> None:
    """Give an interface the address ``text``, with prefix length."""
    address = ipaddress.ip_interface(text)
    end.host.change(
        rtnl_change.add_address(
            end.ifindex, address.ip.packed, address.network.prefixlen, flags=u.IFA_F_NODAD
        )
    )


def delete_address(end: Interface, text: str) -> None:
    """Take the address ``text``, with prefix length, from an interface."""
    address = ipaddress.ip_interface(text)
    end.host.change(
        rtnl_change.delete_address(end.ifindex, address.ip.packed, address.network.prefixlen)
    )


def add_default_route(end: Interface, gateway: str, metric: int | None = None) -> None:
    """Send what no other route takes out by this interface to ``gateway``."""
    via = ipaddress.ip_address(gateway)
    family = AF_INET if via.version == 4 else AF_INET6
    end.host.change(rtnl_change.add_route(family, via=via.packed, oif=end.ifindex, metric=metric))


@contextlib.contextmanager
def _needs(what: str, number: int, advice: str) -> Iterator[None]:
    """Turn the kernel's "no such thing" into words for the reader."""
    try:
        yield
    except KernelError as error:
        if error.errno != number:
            raise
        raise rights.Missing(f"this kernel has no {what}: it needs {advice}") from error

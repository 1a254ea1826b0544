"""Interfaces and addresses as last heard, and what plugins were told of them.

Knows which interface and which address is worth telling; must not know sockets or plugins: values
come in (links, addresses, from notifications or a dump), hooks go out to a listener.

The rule it keeps: after every change, what plugins were told equals what the state says they
should have been told. Nothing is derived from the order in which things happened, so an event that
comes twice changes nothing, and a dump (``replace``) puts everything right after lost events.

An interface is told while it is up and running (IFF_UP, IFF_RUNNING) and no loopback. An address
is told while its interface is, while it can be used (not tentative, failed or deprecated), while
the notify flags let it through, and, with ``check_route``, while a default route serves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from mptcpd.core.address import SockAddr, from_packed
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u

_READY = u.IFF_UP | u.IFF_RUNNING


class Interface:
    """A network interface that is up and running. Plugins read it and never write.

    index      ifindex                    type   ARPHRD_* (linux/if_arp.h)
    name       as it is called now        flags  IFF_* (linux/if.h)
    addresses  the addresses that plugins were told of, in the order they were told
    """

    __slots__ = ("_addresses", "flags", "index", "name", "type")

    def __init__(self, link: rtnl.Link) -> None:
        self._addresses: dict[bytes, SockAddr] = {}
        self.index = link.ifindex
        self.update(link)

    def update(self, link: rtnl.Link) -> None:
        """Take over what a newer link message says."""
        self.name, self.type, self.flags = link.name, link.type, link.flags

    @property
    def addresses(self) -> tuple[SockAddr, ...]:
        return tuple(self._addresses.values())

    def __repr__(self) -> str:
        return f"<Interface {self.index} {self.name}>"


class Listener(Protocol):
    """Who is told of changes: the registry, with plugins behind it."""

    def new_interface(self, interface: Interface) -> None: ...
    def update_interface(self, interface: Interface) -> None: ...
    def delete_interface(self, interface: Interface) -> None: ...
    def new_local_address(self, interface: Interface, address: SockAddr) -> None: ...
    def delete_local_address(self, interface: Interface, address: SockAddr) -> None: ...


def usable(address: rtnl.Address) -> bool:
    """Whether new connections may be made from it.

    A tentative address still waits for duplicate address detection (RFC 4862), unless it is
    optimistic (RFC 4429); a deprecated one must not start anything new.
    """
    if address.flags & (u.IFA_F_DADFAILED | u.IFA_F_DEPRECATED):
        return False
    return not address.flags & u.IFA_F_TENTATIVE or bool(address.flags & u.IFA_F_OPTIMISTIC)


class Network:
    """The state, and the comparison of what is told with what should be.

    notify      the notify flags of the configuration
    has_route   whether a default route serves an address; None: not to be checked
    interfaces  ifindex -> Interface, those that plugins know of
    """

    def __init__(
        self,
        listener: Listener,
        notify: frozenset[str],
        has_route: Callable[[rtnl.Address], bool] | None = None,
    ) -> None:
        self._listener = listener
        self._notify = notify
        self._has_route = has_route
        self._links: dict[int, rtnl.Link] = {}
        self._addresses: dict[int, dict[_Key, rtnl.Address]] = {}
        # Addresses that were there at the start and, without ``existing``, are not told of.
        self._silent: set[tuple[int, bytes]] = set()
        self.interfaces: dict[int, Interface] = {}

    def start(self, links: Iterable[rtnl.Link], addresses: Iterable[rtnl.Address]) -> None:
        """The first dump; without the notify flag ``existing`` its addresses are not told."""
        addresses = list(addresses)
        if "existing" not in self._notify:
            self._silent = {(address.ifindex, address.ip) for address in addresses}
        self.replace(links, addresses)

    def replace(self, links: Iterable[rtnl.Link], addresses: Iterable[rtnl.Address]) -> None:
        """A whole new dump: what is not in it is gone, what is different has changed."""
        seen = {link.ifindex: link for link in links}
        held: dict[int, dict[_Key, rtnl.Address]] = {}
        for address in addresses:
            held.setdefault(address.ifindex, {})[_key(address)] = address
        before = self._links
        self._links, self._addresses = seen, held
        self._forget_silence()
        for ifindex in sorted({*before, *seen, *self.interfaces}):
            self._settle(ifindex, changed=before.get(ifindex) != seen.get(ifindex))

    def link(self, link: rtnl.Link) -> None:
        """A link notification."""
        if link.gone:
            self._links.pop(link.ifindex, None)
            self._addresses.pop(link.ifindex, None)
        else:
            self._links[link.ifindex] = link
        self._settle(link.ifindex, changed=True)

    def address(self, address: rtnl.Address) -> None:
        """An address notification."""
        held = self._addresses.setdefault(address.ifindex, {})
        if address.gone:
            held.pop(_key(address), None)
            self._forget_silence()
        else:
            held[_key(address)] = address
        self._settle(address.ifindex)

    def routes_changed(self, ifindex: int | None = None) -> None:
        """A default route or a rule came or went: look again (at one interface)."""
        for index in list(self._addresses) if ifindex is None else [ifindex]:
            self._settle(index)

    def _settle(self, ifindex: int, *, changed: bool = False) -> None:
        link = self._links.get(ifindex)
        interface = self.interfaces.get(ifindex)
        ready = link is not None and _tracked(link)
        if interface is not None and not ready:
            # What goes with its interface is withdrawn before it, and is news when it returns.
            self._silent = {key for key in self._silent if key[0] != ifindex}
            self._tell_addresses(interface, {})
            del self.interfaces[ifindex]
            self._listener.delete_interface(interface)
            return
        if link is None or not ready:
            return
        if interface is None:
            interface = self.interfaces[ifindex] = Interface(link)
            self._listener.new_interface(interface)
        elif changed:
            interface.update(link)
            self._listener.update_interface(interface)
        self._tell_addresses(interface, self._wanted(ifindex))

    def _wanted(self, ifindex: int) -> dict[bytes, rtnl.Address]:
        """The addresses of an interface that plugins should know of."""
        return {
            address.ip: address
            for address in self._addresses.get(ifindex, {}).values()
            if (ifindex, address.ip) not in self._silent
            and self._allowed(address)
            and usable(address)
            and (self._has_route is None or self._has_route(address))
        }

    def _allowed(self, address: rtnl.Address) -> bool:
        if address.scope == u.RT_SCOPE_LINK and "skip_link_local" in self._notify:
            return False
        return not (address.scope == u.RT_SCOPE_HOST and "skip_loopback" in self._notify)

    def _tell_addresses(self, interface: Interface, wanted: dict[bytes, rtnl.Address]) -> None:
        told = interface._addresses
        for ip in [ip for ip in told if ip not in wanted]:
            address = told.pop(ip)
            self._listener.delete_local_address(interface, address)
        for ip in wanted:
            if ip not in told:
                told[ip] = from_packed(ip)
                self._listener.new_local_address(interface, told[ip])

    def _forget_silence(self) -> None:
        if self._silent:
            held = self._addresses
            self._silent &= {(ifindex, key[0]) for ifindex, keys in held.items() for key in keys}


# An interface may hold one IP several times, with other prefix lengths or peers.
_Key: TypeAlias = tuple[bytes, int, bytes | None]


def _key(address: rtnl.Address) -> _Key:
    return address.ip, address.prefixlen, address.peer


def _tracked(link: rtnl.Link) -> bool:
    return link.flags & _READY == _READY and not link.flags & u.IFF_LOOPBACK

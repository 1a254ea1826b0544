"""sspi: a single subflow per interface and connection.

A connection that we opened gets a subflow over each other interface, to whichever address of the
peer answers there. A connection that a peer opened to us gets the addresses of our other interfaces
announced, so that the peer can join there; at each a listening socket is held on the connection's
port, unless the application's own listens there already. A second subflow on an interface is closed
again, except on a host with one interface: the peer's other interfaces have nowhere else to go. On
a connection that the peer opened that waits a moment, for the peer may be about to leave the first
one: it makes the new one before.

Addresses and interfaces that come are used, those that go are withdrawn and left at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcpd.core.address import IP
from mptcpd.core.joins import Joins, older, remotes, stays_here
from mptcpd.plugin import (
    Connection,
    Interface,
    KernelError,
    NoFreeId,
    Plugin,
    SockAddr,
    Subflow,
)

if TYPE_CHECKING:
    from mptcpd.core.pm import PathManager


GRACE = 0.5  # seconds that a peer has to close the older one of two subflows itself


class Sspi(Plugin):
    description = "a single subflow per interface; announces the other interfaces' addresses"
    needs = "userspace"

    def init(self, pm: PathManager) -> None:
        self.joins = Joins(pm)

    def new_connection(self, connection: Connection, pm: PathManager) -> bool:
        if stays_here(connection):
            return False
        self.joins.follow(connection)
        return True

    def connection_established(self, connection: Connection, pm: PathManager) -> None:
        self.joins.leave_lost(connection)
        self.spread(connection, pm)

    def connection_closed(self, connection: Connection, pm: PathManager) -> None:
        self.joins.forget(connection)

    def new_address(
        self, connection: Connection, remote_id: int, address: SockAddr, pm: PathManager
    ) -> None:
        self.joins.remote_is_new(connection, address)
        self.spread(connection, pm)

    # address_removed: the kernel closes the subflows to that address, and tells of each.

    def new_subflow(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        if self.joins.came_up(connection, subflow):
            return
        if self.is_surplus(connection, subflow, pm):
            if connection.server_side:
                pm.call_later(GRACE, self.close_surplus, connection, subflow, pm)
            else:
                self.close_surplus(connection, subflow, pm)

    def is_surplus(self, connection: Connection, subflow: Subflow, pm: PathManager) -> bool:
        """Whether an older subflow of the connection is on the same interface."""
        interface = interface_of(subflow.local.ip, pm)
        if interface is None or len(pm.interfaces) < 2:
            return False
        return any(
            interface_of(flow.local.ip, pm) is interface for flow in older(connection, subflow)
        )

    def close_surplus(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        """Close a subflow if there still is an older one on its interface."""
        if pm.connections.get(connection.token) is not connection:
            return
        if not self.is_surplus(connection, subflow, pm):
            return
        pm.log.info(
            "%r: its interface has a subflow already; closing the new one, %s to %s.",
            connection, subflow.local, subflow.remote,
        )  # fmt: skip
        try:
            pm.destroy_subflow(connection, subflow)
        except KernelError as error:  # the peer was faster
            pm.log.debug("%r: %s cannot be closed: %s", connection, subflow.local, error)

    def subflow_closed(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        self.joins.closed(connection, subflow)
        self.spread(connection, pm)

    def new_local_address(self, interface: Interface, address: SockAddr, pm: PathManager) -> None:
        self.joins.local_is_new(address)
        self.joins.each(lambda connection: self.spread(connection, pm))

    def delete_local_address(
        self, interface: Interface, address: SockAddr, pm: PathManager
    ) -> None:
        self.joins.each(lambda connection: self.leave(connection, address, pm))
        self.joins.release(address)

    def leave(self, connection: Connection, address: SockAddr, pm: PathManager) -> None:
        """Move a connection away from an address that went."""
        if interface_of(address.ip, pm) is not None:
            return  # another interface has it, too, or it is back
        self.joins.local_is_gone(connection, address)
        self.spread(connection, pm)

    def explain(self, connection: Connection, pm: PathManager) -> tuple[bool, str]:
        if stays_here(connection):
            return False, "both ends are on this host"
        own = interface_of(connection.local.ip, pm)
        others = [
            address
            for interface in pm.interfaces.values()
            if interface is not own
            for address in interface.addresses
            if not address.ip.is_link_local
        ]
        if not others:
            return True, "nothing, for there is no other interface with an address"
        named = ", ".join(map(str, others))
        if connection.server_side:
            return True, f"announces {named}"
        return True, f"a subflow over each other interface, from one of {named}"

    def spread(self, connection: Connection, pm: PathManager) -> None:
        """Use every interface that the connection does not use yet, or offer it to the peer."""
        if not connection.established:
            return
        used = [flow.local.ip for flow in connection.subflows.values()]
        used += [ip for ip, _remote in self.joins.pending(connection)]
        taken = {interface.index for ip in used if (interface := interface_of(ip, pm))}
        for interface in pm.interfaces.values():
            if interface.index in taken:
                continue
            # A link-local address reaches its own link alone, and may be on several.
            addresses = [own for own in interface.addresses if not own.ip.is_link_local]
            if connection.server_side:
                self.announce(connection, addresses, pm)
            else:
                self.join(connection, interface, addresses)

    def join(
        self, connection: Connection, interface: Interface, addresses: list[SockAddr]
    ) -> None:
        """Start one subflow from an interface, to the first address that can be tried."""
        for remote, remote_id in remotes(connection):
            for local in addresses:
                if self.joins.join(connection, interface, local, remote, remote_id):
                    return

    def announce(
        self, connection: Connection, addresses: list[SockAddr], pm: PathManager
    ) -> None:
        """Announce those of an interface's addresses that the peer does not know yet."""
        known = {address.ip for address in connection.announced.values()}
        for address in addresses:
            if address.ip in known:
                continue
            try:
                try:
                    pm.announce(connection, SockAddr(address.ip, connection.local.port))
                except OSError as error:
                    # The usual reason: the application listens on that port of every address.
                    pm.log.debug("%r: no listening socket at %s", connection, error)
                    pm.announce(connection, address, listen=False)
            except NoFreeId as error:
                pm.log.debug("%r: %s was not announced: %s", connection, address, error)
                return
            except KernelError as error:
                pm.log.debug("%r: %s was not announced: %s", connection, address, error)
                if error.words == "userspace PM not selected":
                    self.joins.forget(connection)
                    return


def interface_of(ip: IP, pm: PathManager) -> Interface | None:
    """The interface that has this address."""
    for interface in pm.interfaces.values():
        if any(address.ip == ip for address in interface.addresses):
            return interface
    return None

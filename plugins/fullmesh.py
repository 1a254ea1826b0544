"""fullmesh: connections of our clients get a subflow between every pair of addresses.

From each usable local address one subflow to the peer's address and to each address that the peer
announces; to the peer's address first, so that with a limit every local address is used once before
one is used twice. Addresses that come later are joined, those that go are left at once. A second
subflow between the same two addresses is closed again, whoever asked for it. Subflows from an
interface whose flags have ``backup`` are backups.

Connections that a peer opened to us are declined, and so left to the next plugin: which paths a
connection has is the business of the side that opened it, as in the kernel's own path manager.

    [fullmesh]
    max-subflows=8      of one connection, the first one included; 1 to 64
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcpd.core.joins import Joins, remotes, stays_here
from mptcpd.plugin import Connection, Interface, Plugin, SockAddr, Subflow

if TYPE_CHECKING:
    from mptcpd.core.config import Section
    from mptcpd.core.pm import PathManager

KEY = "max-subflows"
DEFAULT = 8  # as many as the kernel's own path manager allows
MOST = 64  # the kernel counts subflows in a byte and does not check it (Linux 6.18)


class Fullmesh(Plugin):
    description = "a subflow from every local address to every address of the peer, for clients"
    needs = "userspace"

    def init(self, pm: PathManager) -> None:
        self.most = max_subflows(pm.config.section(self.name))
        self.joins = Joins(pm)

    def new_connection(self, connection: Connection, pm: PathManager) -> bool:
        if connection.server_side or stays_here(connection):
            return False
        self.joins.follow(connection)
        return True

    def connection_established(self, connection: Connection, pm: PathManager) -> None:
        self.joins.leave_lost(connection)
        self.mesh(connection, pm)

    def connection_closed(self, connection: Connection, pm: PathManager) -> None:
        self.joins.forget(connection)

    def new_address(
        self, connection: Connection, remote_id: int, address: SockAddr, pm: PathManager
    ) -> None:
        self.joins.remote_is_new(connection, address)
        self.mesh(connection, pm)

    # address_removed: the kernel closes the subflows to that address, and tells of each.

    def new_subflow(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        if self.joins.came_up(connection, subflow):
            return
        if self.joins.is_second(connection, subflow):
            pm.log.info(
                "%r: there is a subflow from %s to %s already; closing the new one.",
                connection, subflow.local.ip, subflow.remote,
            )  # fmt: skip
            self.joins.drop(connection, subflow)

    def subflow_closed(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        self.joins.closed(connection, subflow)
        self.mesh(connection, pm)  # there is room for another pair now

    def new_local_address(self, interface: Interface, address: SockAddr, pm: PathManager) -> None:
        self.joins.local_is_new(address)
        self.joins.each(lambda connection: self.mesh(connection, pm))

    def delete_local_address(
        self, interface: Interface, address: SockAddr, pm: PathManager
    ) -> None:
        self.joins.each(lambda connection: self.leave(connection, address, pm))
        self.joins.release(address)

    def leave(self, connection: Connection, address: SockAddr, pm: PathManager) -> None:
        """Move a connection away from an address that went."""
        if any(address in other.addresses for other in pm.interfaces.values()):
            return  # another interface has it, too, or it is back
        self.joins.local_is_gone(connection, address)
        self.mesh(connection, pm)

    def explain(self, connection: Connection, pm: PathManager) -> tuple[bool, str]:
        if connection.server_side:
            return False, "the peer opened it: its paths are the peer's business"
        if stays_here(connection):
            return False, "both ends are on this host"
        pairs = [
            f"{local} over {interface.name} to {remote}"
            for remote, _id in remotes(connection)
            for interface in pm.interfaces.values()
            for local in interface.addresses
            if local.ip.version == remote.ip.version
            and local.ip != connection.local.ip
            and not local.ip.is_link_local
        ]
        found = "; ".join(pairs[: self.most - 1]) or "none, for there is no other address"
        return True, f"subflows to be created: {found}"

    def mesh(self, connection: Connection, pm: PathManager) -> None:
        """Ask for the subflows that are missing, as far as the limit allows."""
        if not connection.established:
            return
        room = self.most - len(connection.subflows) - len(self.joins.pending(connection))
        for remote, remote_id in remotes(connection):
            for interface in pm.interfaces.values():
                for local in interface.addresses:
                    if room <= 0:
                        return
                    # A link-local address reaches its own link alone, and may be on several.
                    if not local.ip.is_link_local:
                        room -= self.joins.join(connection, interface, local, remote, remote_id)


def max_subflows(section: Section) -> int:
    """The limit that the configuration names. Errors: ConfigError with file and line."""
    for key in section:
        if key != KEY:
            raise section.error(key, f"unknown key; allowed: {KEY}")
    text = section.get(KEY, str(DEFAULT))
    # int() refuses thousands of digits in words of its own.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise section.error(KEY, f'"{text}" is no number of subflows; allowed: 1 to {MOST}')
    return int(text)

"""The public plugin API: what a path management policy is written against.

A plugin is a Python file in the plugin directory, ``NAME.py``, that defines exactly one subclass of
``Plugin``. Only hooks that the class overrides are called. A hook that raises is logged with
plugin, hook and traceback; the others go on.

    from mptcpd.plugin import Plugin

    class Hello(Plugin):
        description = "says which addresses come"

        def new_local_address(self, interface, address, pm):
            pm.log.info("%s has %s", interface.name, address)

``pm`` is the plugin's PathManager (``mptcpd.core.pm``): every command returns when the kernel has
answered and raises KernelError, with the kernel's words, when it refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcpd.core.address import SockAddr
from mptcpd.core.connections import Connection, Subflow
from mptcpd.core.ids import NoFreeId
from mptcpd.core.network import Interface
from mptcpd.core.ownership import Endpoint
from mptcpd.nl.errors import KernelError, NetlinkError
from mptcpd.nl.mptcp import Limits

if TYPE_CHECKING:
    from mptcpd.core.pm import PathManager

__all__ = [
    "PRIORITY_DEFAULT",
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "Connection",
    "Endpoint",
    "Interface",
    "KernelError",
    "Limits",
    "NetlinkError",
    "NoFreeId",
    "Plugin",
    "SockAddr",
    "Subflow",
]

PRIORITY_HIGH = -20  # lower is asked first, as with nice(1)
PRIORITY_DEFAULT = 0
PRIORITY_LOW = 19


class Plugin:
    """A path management policy. Override the hooks that it needs, and no others.

    name         default: the file's name; ``--path-manager`` compares with it
    description  one line
    priority     lower is asked first; between PRIORITY_HIGH and PRIORITY_LOW
    needs        the path manager it works with: "userspace", "kernel" or None (either)
    loaded_from  the file that it was loaded from, and what was in it; the loader sets it

    A reload replaces a plugin if its file or its group of the configuration has changed. ``init``
    of the new one comes before ``exit`` of the old one, which goes on if ``init`` raises. The new
    one is told of all that is there, as at a start; connections of the old one are offered to it
    first. A plugin that is not replaced finds the new configuration in ``pm.config``.
    """

    name: str = ""
    description: str = ""
    priority: int = PRIORITY_DEFAULT
    needs: str | None = None
    loaded_from: tuple[str, bytes] = ("", b"")

    def init(self, pm: PathManager) -> None:
        """Called once before any other hook. Raise to refuse: the plugin is then left out."""

    def exit(self, pm: PathManager) -> None:
        """Called once at the end, in reverse order of priority; also when a reload takes the
        plugin out. What it opened itself it has to close here."""

    # Connections. Each belongs to the plugin that first did not decline it; only that one is told.

    def new_connection(self, connection: Connection, pm: PathManager) -> bool | None:
        """A connection was created, or found at the start. Return False to decline it: the next
        plugin is asked. Subflows can be created once it is established."""

    def connection_established(self, connection: Connection, pm: PathManager) -> None:
        """Further subflows may be created."""

    def connection_closed(self, connection: Connection, pm: PathManager) -> None:
        """The connection is over, and with it what was announced for it."""

    def new_address(
        self, connection: Connection, remote_id: int, address: SockAddr, pm: PathManager
    ) -> None:
        """The peer announced an address; its port is 0 if it named none."""

    def address_removed(self, connection: Connection, remote_id: int, pm: PathManager) -> None:
        """The peer withdrew an address."""

    def new_subflow(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        """A subflow was established, by either side. The first one has no such call."""

    def subflow_closed(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        """A subflow closed, the first one too, or failed to come up; see its ``error``. It is 0 and
        the local port, too, if one that was asked for is not there, and its news was lost."""

    def subflow_priority(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        """The peer changed a subflow's ``backup``."""

    def explain(self, connection: Connection, pm: PathManager) -> tuple[bool, str]:
        """Whether the plugin would take a connection like this one, which is only imagined and has
        token 0, and in words what it would do then, or why not. It must change nothing."""
        return True, "it does not say what it would do"

    # Listening MPTCP sockets of this host, whoever opened them.

    def listener_created(self, address: SockAddr, pm: PathManager) -> None:
        """Somebody listens at this address."""

    def listener_closed(self, address: SockAddr, pm: PathManager) -> None:
        """Nobody listens there any more."""

    # The network. Every plugin is told.

    def new_interface(self, interface: Interface, pm: PathManager) -> None:
        """An interface came up (also each one that is up at the start)."""

    def update_interface(self, interface: Interface, pm: PathManager) -> None:
        """Something about an interface changed: its flags, its name."""

    def delete_interface(self, interface: Interface, pm: PathManager) -> None:
        """An interface went down or away; its addresses were withdrawn before this."""

    def new_local_address(self, interface: Interface, address: SockAddr, pm: PathManager) -> None:
        """An address can be used from now on."""

    def delete_local_address(
        self, interface: Interface, address: SockAddr, pm: PathManager
    ) -> None:
        """An address can no longer be used."""

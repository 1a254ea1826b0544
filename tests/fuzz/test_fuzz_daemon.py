"""Claim: whatever the kernel does and however its messages go wrong, the whole daemon goes on, and
what plugins know comes to equal what the kernel has.

The daemon runs on the fake kernel, in one process. Things happen to the network, to connections and
by the plugin's own commands; answers and notifications are lost, cut, repeated, late, out of order,
or from somebody else. Then:

- no exception ends the daemon, and no hook is told what makes no sense;
- if nothing was lost without a word, interfaces, addresses, connections and subflows are those of
  the kernel as soon as it is quiet (and a second later, where an answer was lost: it asks again);
- what was lost without a word, which no kernel does, is found with the next overrun.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli import counters
from mptcpd.core.address import SockAddr, from_packed, sockaddr
from mptcpd.core.connections import Connection
from mptcpd.core.network import Interface
from mptcpd.core.pm import PathManager
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import NetlinkError
from mptcpd.plugin import NoFreeId, Plugin, Subflow
from tests import whole
from tests.fake import moods
from tests.fake.network import LO, Link
from tests.fake.world import FakeWorld
from tests.fake_kernel import FakeKernel, plugged

PICK = st.integers(0, 10**6)
PROTOCOLS = st.sampled_from([u.NETLINK_GENERIC, u.NETLINK_ROUTE, u.NETLINK_SOCK_DIAG])
# Those that tell nobody that something is missing, or that it comes too late to count.
SILENT = {"short", "no_header", "impossible", "swapped"}
# A command may be refused, and its answer may be lost; nothing else may come of it.
ALLOWED = (NetlinkError, OSError, NoFreeId, ValueError)


class Ledger(Plugin):
    """A plugin that believes what it is told, and notes what makes no sense."""

    name = "ledger"

    def __init__(self) -> None:
        self.pm: Any = None
        self.flows: dict[int, set[tuple[SockAddr, SockAddr]]] = {}
        self.addresses: dict[int, set[SockAddr]] = {}
        self.wrong: list[str] = []

    def init(self, pm: PathManager) -> None:
        self.pm = pm

    def check(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)

    def new_connection(self, connection: Connection, pm: PathManager) -> None:
        self.check(connection.token not in self.flows, f"new {connection}")
        first = connection.local, connection.remote
        there = {(flow.local, flow.remote) for flow in connection.subflows.values()}
        self.flows[connection.token] = {first} & there

    def connection_closed(self, connection: Connection, pm: PathManager) -> None:
        self.check(self.flows.pop(connection.token, None) is not None, f"closed {connection}")

    def new_subflow(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        ends = subflow.local, subflow.remote
        self.check(ends not in self.flows[connection.token], f"new {subflow}")
        self.flows[connection.token].add(ends)

    def subflow_closed(self, connection: Connection, subflow: Subflow, pm: PathManager) -> None:
        ends = subflow.local, subflow.remote
        known = self.flows[connection.token]
        self.check(ends in known or bool(subflow.error), f"closed {subflow}")
        known.discard(ends)

    def new_interface(self, interface: Interface, pm: PathManager) -> None:
        self.check(interface.index not in self.addresses, f"new {interface}")
        self.addresses[interface.index] = set()

    def delete_interface(self, interface: Interface, pm: PathManager) -> None:
        self.check(self.addresses.pop(interface.index, None) == set(), f"delete {interface}")

    def new_local_address(
        self, interface: Interface, address: SockAddr, pm: PathManager
    ) -> None:
        self.check(address not in self.addresses[interface.index], f"new {address}")
        self.addresses[interface.index].add(address)

    def delete_local_address(
        self, interface: Interface, address: SockAddr, pm: PathManager
    ) -> None:
        self.check(address in self.addresses[interface.index], f"delete {address}")
        self.addresses[interface.index].discard(address)


class Machine:
    """What can happen, by name; each takes numbers that pick what it happens to."""

    def __init__(self) -> None:
        self.world = FakeWorld()
        self.kernel: FakeKernel = self.world.kernel
        self.ledger = Ledger()
        self.aborted = 0
        self.exact = True
        self.loop: Any = None

    def link_of(self, pick: int) -> Link | None:
        links = [link for link in self.kernel.network.links.values() if link.index != LO]
        return links[pick % len(links)] if links else None

    def token_of(self, pick: int) -> int | None:
        tokens = list(self.kernel.connections.up)
        return tokens[pick % len(tokens)] if tokens else None

    def flow_of(self, token: int, pick: int) -> tuple[SockAddr, SockAddr] | None:
        flows = list(self.kernel.connections.up[token])
        return flows[pick % len(flows)] if flows else None

    # The network.

    def appears(self, pick: int, other: int) -> None:
        if len(self.kernel.network.links) < 5:
            number = self.kernel.network._count
            self.world.link(f"eth{number}", f"10.0.{number}.1/24", f"fd00:{number}::1/64")

    def changes(self, pick: int, other: int) -> None:
        link, network = self.link_of(pick), self.kernel.network
        if link is None:
            return
        ip = f"10.7.{link.index}.{other % 3 + 1}/24"
        held = [each for each in link.addresses if from_packed(each.ip).ip.version == 4]
        if other % 6 == 0:
            network.set_link(link, up=not link.up)
        elif other % 6 == 1:
            network.set_link(link, carrier=not link.carrier)
        elif other % 6 == 2:
            network.add_address(link, ip)
        elif other % 6 == 3 and held:
            network.delete_address(link, str(from_packed(held[0].ip)))
        elif other % 6 == 4:
            network.set_link(link, name=f"wan{other % 100}")
        elif other % 6 == 5:
            network.delete_link(link)

    # Connections.

    def opens(self, pick: int, other: int) -> None:
        if len(self.kernel.connections.up) < 6:
            self.world.connect(sockaddr("10.0.1.2"))

    def accepts(self, pick: int, other: int) -> None:
        if len(self.kernel.connections.up) < 6:
            self.world.accept(sockaddr("10.0.1.1:80"))

    def happens(self, pick: int, other: int) -> None:
        table, token = self.kernel.connections, self.token_of(pick)
        if token is None:
            return
        ends = self.flow_of(token, other)
        if other % 7 == 0:
            table.close(token)
        elif other % 7 == 1:
            table.abort(token)
            self.aborted += 1
        elif other % 7 == 2:
            table.peer_announces(f"10.0.2.2:{80 + other % 2}", 1 + other % 3, token)
        elif other % 7 == 3:
            table.peer_removes(1 + other % 3, token)
        elif other % 7 == 4:
            port = 40_000 + len(table.events) + sum(map(len, table.up.values()))
            ends = sockaddr("10.0.1.1:80"), sockaddr(f"10.0.3.2:{port}")
            if ends not in table.up[token]:
                table.peer_joins(str(ends[0]), str(ends[1]), token)
        elif ends is not None:
            if other % 7 == 5:
                table.peer_destroys(ends, token)
            else:
                table.peer_prefers(ends, other % 2, token)

    # What the plugin does.

    def asks(self, pick: int, other: int) -> None:
        token, pm = self.token_of(pick), self.ledger.pm
        connection = pm.connections.get(token)
        if connection is None:
            return
        flows = list(connection.subflows.values())
        actions: dict[int, Callable[[], object]] = {
            0: lambda: pm.create_subflow(connection, "10.0.1.1", "10.0.2.2"),
            1: lambda: pm.announce(connection, "10.0.1.1", listen=bool(other & 64)),
            2: lambda: pm.remove(connection, 1 + other % 3),
            3: lambda: flows and pm.destroy_subflow(connection, flows[other % len(flows)]),
            4: lambda: flows and pm.set_backup(connection, flows[0], bool(other & 64)),
            5: lambda: pm.addresses(connection),
            6: lambda: pm.add_endpoint(f"10.0.1.{other % 9 + 1}", flags=["subflow"]),
            7: lambda: pm.remove_endpoint(1 + other % 9),
        }
        with contextlib.suppress(*ALLOWED):
            actions[other % 8]()

    # What goes wrong.

    def answer_goes_wrong(self, pick: int, other: int) -> None:
        protocols = list(self.kernel.moods)
        names = sorted(moods.MOODS)
        name = names[other % len(names)]
        # Out of order a dump ends before it has begun, which nobody could notice.
        if name != "swapped":
            self.kernel.moods[protocols[pick % 3]].append(moods.MOODS[name])

    def rumour_goes_wrong(self, pick: int, other: int) -> None:
        protocol = [u.NETLINK_GENERIC, u.NETLINK_ROUTE][pick % 2]
        names = sorted(moods.RUMOURS)
        name = names[other % len(names)]
        self.exact &= name not in SILENT
        self.kernel.rumours[protocol].append(moods.RUMOURS[name])

    def lost_and_not_dumped(self, pick: int, other: int) -> None:
        """Two things go wrong together: what was lost cannot be read anew at once."""
        protocol = [u.NETLINK_GENERIC, u.NETLINK_ROUTE][pick % 2]
        answers = u.NETLINK_SOCK_DIAG if protocol == u.NETLINK_GENERIC else protocol
        self.kernel.rumours[protocol].append(moods.RUMOURS["lost"])
        self.kernel.moods[answers].append(moods.MOODS[["refused", "never"][other % 2]])
        (self.changes if protocol == u.NETLINK_ROUTE else self.happens)(other, pick)
        self.settle()

    def buffers_shrink(self, pick: int, other: int) -> None:
        for each in self.kernel.sockets:
            each.room = 1 + pick % 5

    def later_kernel(self, pick: int, other: int) -> None:
        self.kernel.future(bool(pick % 2))

    def acts(self, pick: int, other: int) -> None:
        """The daemon gets its time."""
        if pick % 2:
            self.settle()
        else:
            self.kernel.tell()
            self.loop.turn()

    def settle(self) -> None:
        self.world.settle(self.loop, lambda: True)

    # The end.

    def calm(self) -> None:
        """Everything works from now on; and time passes in which it is asked again."""
        for each in (self.kernel.moods, self.kernel.rumours):
            for queue in each.values():
                queue.clear()
        self.kernel.future(False)
        for sock in self.kernel.sockets:
            sock.room = self.kernel.room
        for _second in range(3):
            self.settle()
            self.loop.skip(1.1)
        self.settle()

    def lose(self) -> None:
        """One notification of each kind is lost, of which the kernel tells."""
        for protocol, group in (
            (u.NETLINK_GENERIC, self.kernel.pm.group), (u.NETLINK_ROUTE, u.RTNLGRP_LINK),
        ):  # fmt: skip
            for each in self.kernel._subscribers(protocol, group):
                each.put(moods.lost([]))
        self.settle()

    def differences(self) -> list[str]:
        """In what the daemon's view is not what the kernel has."""
        pm, kernel, ledger = self.ledger.pm, self.kernel, self.ledger
        found = list(ledger.wrong)
        links = {
            link.index: {from_packed(held.ip) for held in link.addresses}
            for link in kernel.network.links.values()
            if link.flags & u.IFF_RUNNING and link.index != LO
        }
        shown = {index: set(each.addresses) for index, each in pm.interfaces.items()}
        flows = {token: set(ends) for token, ends in kernel.connections.up.items()}
        table = {
            token: {(flow.local, flow.remote) for flow in each.subflows.values()}
            for token, each in pm.connections.items()
        }
        for what, ours, theirs in (
            ("interfaces", shown, links), ("told", ledger.addresses, shown),
            ("connections", table, flows), ("told", ledger.flows, table),
        ):  # fmt: skip
            if ours != theirs:
                found.append(f"{what}: {ours} instead of {theirs}")
        names = {each.index: each.name for each in kernel.network.links.values()}
        found += [
            f"{each.name} is called {names.get(index)}"
            for index, each in pm.interfaces.items()
            if each.name != names.get(index)
        ]
        return found


OPERATIONS = [
    "appears", "changes", "changes", "opens", "accepts", "happens", "happens", "happens", "asks",
    "asks", "answer_goes_wrong", "rumour_goes_wrong", "lost_and_not_dumped", "buffers_shrink",
    "later_kernel", "acts", "acts", "acts",
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), PICK, PICK), min_size=30, max_size=100))
def test_the_daemon_goes_on(operations: list[tuple[str, int, int]]) -> None:
    machine = Machine()

    def script(loop: whole.Driven) -> None:
        machine.loop = loop
        for name, pick, other in operations:
            getattr(machine, name)(pick, other)
        machine.calm()
        if machine.exact:
            assert machine.differences() == []
        machine.lose()
        machine.ledger.wrong.clear()
        assert machine.differences() == []

    with (
        plugged(machine.kernel),
        mock.patch.object(counters, "aborted", lambda: machine.aborted),
    ):
        whole.run(script, [machine.ledger])

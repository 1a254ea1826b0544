"""Claim: however addresses and other programs' endpoints come and go, the places in the kernel are
given out by the rule, no ID is held twice, and nobody else's endpoint is touched.

The rule of addr_adv: the first address of every interface comes before any second one, one that
carries data before a backup, an earlier one before a later; an IP has one endpoint, on the first
interface that it was told of and that is in line for one. The model is that sentence, over lists.
The kernel has room for few, refuses for want of memory, and is asked through bytes and sockets.
"""

from __future__ import annotations

import errno
import logging
from typing import Any
from unittest.mock import Mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.core.config import Config, Settings
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.loop import Loop
from mptcpd.core.network import Interface
from mptcpd.core.ownership import Forgetful
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import Limits
from plugins.addr_adv import AddrAdv
from tests.core.stubs import link
from tests.fake.endpoints import EndpointTable
from tests.fake_kernel import FakeKernel

INTERFACES = [2, 3]
BACKUP = 3  # the interface whose addresses are a spare
OURS = [sockaddr(f"10.0.1.{number}") for number in range(1, 5)]
THEIRS = [f"10.9.9.{number}" for number in range(1, 4)]
ADDRESSES = st.sampled_from(OURS)
WHERE = st.sampled_from(INTERFACES)
Place = tuple[SockAddr, int]


class Machine(RuleBasedStateMachine):
    @initialize(room=st.integers(2, 5), style=st.sampled_from(["6.18", "6.6"]))
    def start(self, room: int, style: str) -> None:
        self.room = room
        self.kernel = EndpointTable(room=room, style=style)
        self.told: list[Place] = []  # in the order in which the plugin was told
        self.foreign: set[str] = set()
        self.interfaces = {index: Interface(link(index)) for index in INTERFACES}
        for index, interface in self.interfaces.items():
            interface.address_flags = ("subflow", "backup") if index == BACKUP else ("subflow",)
        config = Config.merge(Settings(addr_flags=("subflow",)), Settings(), "/p")
        self.ids = AddressIds()
        endpoints = Endpoints(FakeKernel(self.kernel).mptcp, self.ids)
        endpoints.start(Forgetful())
        plugin = AddrAdv()
        plugin.name = "addr_adv"
        self.registry = Registry([plugin])
        self.loop = Loop()
        unused: Any = Mock()
        logging.getLogger("mptcpd.plugin.addr_adv").disabled = True
        self.registry.start(
            lambda plugin: PathManager(
                plugin.name,
                config=config,
                endpoints=endpoints,
                commands=unused,
                ids=self.ids,
                listeners=unused,
                interfaces=self.interfaces,
                is_lost=lambda ip: False,
                connections={},
                loop=self.loop,
                guard=lambda what, function: self.registry.guard(plugin, what, function),
            )
        )

    def teardown(self) -> None:
        logging.getLogger("mptcpd.plugin.addr_adv").disabled = False
        if hasattr(self, "loop"):
            self.loop.close()

    def turn(self) -> None:
        self.loop.call_later(0, self.loop.stop)
        self.loop.run()

    @rule(address=ADDRESSES, where=WHERE)
    def comes_or_goes(self, address: SockAddr, where: int) -> None:
        place = address, where
        if place in self.told:
            self.told.remove(place)
            self.registry.delete_local_address(self.interfaces[where], address)
        else:
            self.told.append(place)
            self.registry.new_local_address(self.interfaces[where], address)
        self.turn()
        self.check()

    @rule(where=WHERE)
    def interface_goes(self, where: int) -> None:
        going = [place for place in self.told if place[1] == where]
        for address, index in going:
            self.told.remove((address, index))
            self.registry.delete_local_address(self.interfaces[index], address)
        if going:
            self.turn()
            self.check()

    @rule(text=st.sampled_from(THEIRS), ident=st.integers(1, 6))
    def somebody_else(self, text: str, ident: int) -> None:
        """Adds or deletes an endpoint, which is noticed with the next change."""
        for number, there in list(self.kernel.endpoints.items()):
            if there.ip == sockaddr(text).packed:
                del self.kernel.endpoints[number]
                self.foreign.discard(text)
                return
        if len(self.kernel.endpoints) < self.room and ident not in self.kernel.endpoints:
            self.kernel.have(text, ident, "signal")
            self.foreign.add(text)

    @rule(address=ADDRESSES, where=WHERE)
    def no_memory_for_a_moment(self, address: SockAddr, where: int) -> None:
        """What was refused is asked for again with the next change."""
        if (address, where) not in self.told:
            self.kernel.fails = [KernelError("MPTCP_PM_CMD_SET_LIMITS", errno.ENOMEM)]
            self.told.append((address, where))
            self.registry.new_local_address(self.interfaces[where], address)
            self.turn()
            self.kernel.fails = []

    def line(self) -> list[Place]:
        """The places in the order in which they get endpoints."""
        count: dict[int, int] = {}
        ranked = []
        for arrival, (address, where) in enumerate(self.told):
            nth = count[where] = count.get(where, -1) + 1
            ranked.append((nth, where == BACKUP, arrival, (address, where)))
        return [place for *_rank, place in sorted(ranked, key=lambda rank: rank[:3])]

    def check(self) -> None:
        have: list[Place] = []
        foreign = set()
        for there in self.kernel.endpoints.values():
            text = str(sockaddr(".".join(map(str, there.ip or b""))))
            if text in self.foreign:
                foreign.add(text)
            else:
                have.append((sockaddr(text), there.ifindex or 0))
        assert foreign == self.foreign  # nobody else's was deleted, none of ours is left over
        assert set(have) <= set(self.told)
        most = min(8, 2 + len(self.told))
        assert self.kernel.current == Limits(most, most)
        room = self.room - len(self.foreign)
        wanted = len({address for address, _where in self.told})
        assert len(have) == min(room, wanted), (have, self.told)
        # Who has one comes before who has none, but for those whose IP has one elsewhere.
        line = self.line()
        without = [place for place in line if place[0] not in {each for each, _where in have}]
        if without:
            last = max(line.index(place) for place in have) if have else -1
            assert last < line.index(without[0]), (have, line)

    @invariant()
    def ids_as_in_the_kernel(self) -> None:
        if not hasattr(self, "loop"):
            return
        for ident, there in self.kernel.endpoints.items():
            text = ".".join(map(str, there.ip or b""))
            if text not in self.foreign:
                assert self.ids.find(text) == ident


TestSlots = Machine.TestCase


# Found so.


def test_an_ip_that_loses_its_place_gets_another_one_that_is_ahead_in_line() -> None:
    machine = Machine()
    machine.start(2, "6.18")
    machine.comes_or_goes(OURS[3], BACKUP)
    machine.comes_or_goes(OURS[2], BACKUP)
    machine.comes_or_goes(OURS[2], 2)  # first in line, but its IP has an endpoint
    machine.comes_or_goes(OURS[1], 2)  # which is driven out for this one
    machine.teardown()

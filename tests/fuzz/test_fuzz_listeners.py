"""Claim: a port is listened at exactly while somebody holds it, whatever the kernel refuses.

Listening sockets are opened, shared and closed by their users; the kernel refuses to open one (no
descriptor, no such address, MPTCP off, somebody else is there), or to hand out who connects without
joining. The model is a count for each address. Besides:

- a refusal leaves nothing behind, neither a socket nor a reader in the loop;
- every stranger is reset as soon as there is a descriptor for it, and nothing spins meanwhile.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.core.listeners import Listeners
from tests.fake.network import LO, NetworkTable
from tests.fake.sockets import ListeningSocket
from tests.fake_kernel import FakeKernel
from tests.whole import Driven

HERE = ["10.0.1.1", "[fd00::1]"]
ELSEWHERE = "10.9.9.9"
WHERE = st.builds(
    lambda host, port: sockaddr(f"{host}:{port}"),
    st.sampled_from([*HERE, *HERE, ELSEWHERE]),
    st.sampled_from([0, 80, 80]),
)
TROUBLE = st.sampled_from([0] * 9 + [errno.EMFILE, errno.ENOMEM, errno.ENOPROTOOPT])
PICK = st.integers(0, 10**6)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = FakeKernel(network=NetworkTable())
        for host in HERE:
            self.kernel.network.add_address(self.kernel.network.links[LO], host.strip("[]"))
        self.sockets: list[ListeningSocket] = []
        self.fails = 0
        self.loop = Driven(lambda: None)
        self.listeners = Listeners(self.loop, self.open)
        self.model: dict[SockAddr, int] = {}
        self.theirs: set[SockAddr] = set()
        self.strangers = 0  # that wait, or were turned away

    def open(self, family: int, kind: int, protocol: int) -> Any:
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        self.sockets.append(self.kernel.open(family, kind, protocol))
        return self.sockets[-1]

    def teardown(self) -> None:
        self.listeners.close_all()
        assert all(sock.closed for sock in self.sockets)
        assert not self.loop._readers
        self.loop.close()

    def ours(self) -> list[ListeningSocket]:
        return [sock for sock in self.sockets if not sock.closed]

    @rule(where=WHERE, trouble=TROUBLE)
    def listens(self, where: SockAddr, trouble: int) -> None:
        """``trouble``: that there is no descriptor or no memory, or that MPTCP is off."""
        self.kernel.enabled = trouble != errno.ENOPROTOOPT
        self.fails = trouble if self.kernel.enabled else 0
        refusals = [
            number
            for number, refused in (
                (trouble, trouble),
                (errno.EADDRNOTAVAIL, str(where.ip) == ELSEWHERE),
                (errno.EADDRINUSE, where in self.theirs),
            )
            if refused
        ]
        if refusals and where not in self.model:
            with pytest.raises(OSError) as caught:
                self.listeners.listen(where)
            assert caught.value.errno == refusals[0]
            return
        bound = self.listeners.listen(where)
        assert bound.ip == where.ip and bound.port == (where.port or bound.port) != 0
        assert where.port or bound not in self.model
        self.model[bound] = self.model.get(bound, 0) + 1

    @precondition(lambda self: self.model)
    @rule(pick=PICK)
    def closes(self, pick: int) -> None:
        where = list(self.model)[pick % len(self.model)]
        self.listeners.close(where)
        self.model[where] -= 1
        if not self.model[where]:
            del self.model[where]

    @rule(where=WHERE)
    def closes_what_nobody_holds(self, where: SockAddr) -> None:
        if where not in self.model:
            with pytest.raises(KeyError):
                self.listeners.close(where)

    # What the kernel and others do.

    @rule(where=WHERE)
    def somebody_else_listens(self, where: SockAddr) -> None:
        if where.port and where not in self.model:
            self.theirs ^= {where}
            (self.kernel.heard.add if where in self.theirs else self.kernel.heard.discard)(where)

    @precondition(lambda self: self.ours())
    @rule(pick=PICK, count=st.integers(1, 100), number=st.sampled_from([0, 0, 24, 103]))
    def strangers_come(self, pick: int, count: int, number: int) -> None:
        """``number``: what accept fails with first (EMFILE; ECONNABORTED: it has gone again)."""
        sock = self.ours()[pick % len(self.ours())]
        sock.connect(count, number)
        self.loop.turn()

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.1]))
    def time_passes(self, seconds: float) -> None:
        self.loop.skip(seconds)
        self.loop.turn()

    @rule()
    def all_strangers_are_turned_away(self) -> None:
        for sock in self.ours():
            sock.fails = 0
        for _round in range(20):
            self.loop.skip(1.1)
            self.loop.turn()
        assert all(not sock.waiting for sock in self.ours())

    @invariant()
    def as_in_the_model(self) -> None:
        assert len(self.listeners) == len(self.model) == len(self.ours())
        assert self.kernel.heard == self.model.keys() | self.theirs
        readers = self.loop._readers.keys()
        assert readers <= {sock.fileno() for sock in self.ours()}
        # Who is not read waits for a timer; at most one for each.
        pending = [timer for _at, _count, timer in self.loop._timers if timer.pending]
        assert len(readers) + len(pending) == len(self.ours())
        assert len(pending) == len(self.listeners._paused)
        assert self.listeners.strangers == sum(sock.reset for sock in self.sockets)


TestListeners = Machine.TestCase

"""Claim: a pair of addresses is tried once, and once more only when something about it is new; a
connection never loses its last subflow by us; what we closed ourselves counts as no failure.

Policies ask for subflows at any time; the kernel refuses, subflows come up, fail and close in any
order; local addresses go and return, the peer announces its own again, connections end. The model
notes for each pair whether it may be asked for, and knows nothing of how that is remembered.
Where a path is lost while data waits, each remaining subflow is replaced by a new one between the
same addresses: then the old one goes, or the new one if it came too late.
"""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mptcpd.core import joins
from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.core.connection import Pair, Subflow
from mptcpd.core.joins import Joins
from mptcpd.core.renewal import IN_TIME, Renewals
from mptcpd.nl.errors import KernelError

LOCALS = [sockaddr(text) for text in ("10.0.1.1", "10.0.2.1", "fd00::1")]
REMOTES = [sockaddr(text) for text in ("10.0.1.2:80", "10.0.2.2:80", "[fd00::2]:80")]
CONNECTIONS = st.sampled_from([1, 1, 1, 2])
# Few of each, so that things come together: of two families only once in a while.
LOCAL = st.sampled_from([*LOCALS[:2] * 3, LOCALS[2]])
REMOTE = st.sampled_from([*REMOTES[:2] * 3, REMOTES[2]])
PICK = st.integers(0, 10**6)
Ends = tuple[SockAddr, SockAddr]
_KERNELS = "userspace PM not selected"


class Interface:
    """What is read of one."""

    address_flags = ("backup",)

    def __init__(self, index: int, address: SockAddr) -> None:
        self.index, self.addresses = index, (address,)


class Connection:
    """A connection as the table has it, and what the model knows of its pairs."""

    server_side = deny_join_id0 = False

    def __init__(self, token: int) -> None:
        self.token = token
        self.server_side = False
        self.subflows: dict[int, Subflow] = {}
        self.closing: list[Subflow] = []  # closed, but we have not heard of it
        self.pending: set[Pair] = set()
        self.barred: set[Pair] = set()  # not to be tried until something is new
        self.ours: set[Ends] = set()  # closed by us, not heard of yet
        self.waits: set[Any] = set()  # local IPs to be left when there is another subflow
        self.renewed: dict[Pair, tuple[Subflow, float]] = {}  # to be replaced, until then

    def known(self) -> list[Subflow]:
        """The subflows that are there for all that we know."""
        return [flow for flow in self.subflows.values() if ends_of(flow) not in self.ours]

    def close(self, flow: Subflow) -> None:
        """The kernel closes it; the event comes later."""
        if flow not in self.closing:
            self.closing.append(flow)


def pair_of(flow: Subflow) -> Pair:
    return flow.local.ip, flow.remote


def ends_of(flow: Subflow) -> Ends:
    return flow.local, flow.remote


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.connections: dict[int, Connection] = {}
        self.refusal: KernelError | None = None
        self.asked: list[Pair] = []
        self.count = 0
        self.may_leave: set[Any] = set()  # local IPs that may be abandoned now
        self.log = logging.getLogger("test")
        self.now = 0.0
        self.busy = False
        self.interfaces = {index: Interface(index, local) for index, local in enumerate(LOCALS)}
        pm: Any = self  # what Joins needs of a PathManager is here
        with mock.patch.object(joins, "Renewals", partial(Renewals, clock=lambda: self.now)):
            self.joins = Joins(pm)

    @initialize()
    def one_is_open(self) -> None:
        self.opens(1)

    # As the PathManager.

    def create_subflow(
        self, connection: Connection, local: SockAddr, remote: SockAddr, **_options: Any
    ) -> None:
        self.asked.append((local.ip, remote))
        if self.refusal is not None:
            raise self.refusal

    def abandon(self, connection: Connection, address: SockAddr) -> None:
        """Only an address that is gone, and never the last subflow: some other must carry on."""
        assert address.ip in self.may_leave
        known = connection.known()
        gone = [flow for flow in connection.subflows.values() if flow.local.ip == address.ip]
        assert not known or any(flow.local.ip != address.ip for flow in known)
        if self.refusal is not None:
            raise self.refusal
        for flow in gone:
            connection.ours.add(ends_of(flow))
            connection.close(flow)

    def is_busy(self, connection: Connection) -> bool:
        return self.busy

    def drop_subflow(self, connection: Connection, subflow: Subflow) -> None:
        if self.refusal is not None:
            raise self.refusal
        connection.ours.add(ends_of(subflow))
        connection.close(subflow)

    # What happens.

    @rule(token=CONNECTIONS)
    def opens(self, token: int) -> None:
        if token not in self.connections:
            connection: Any = Connection(token)
            self.connections[token] = connection
            connection.subflows[0] = Subflow(LOCALS[0], REMOTES[0])
            self.joins.follow(connection)

    @rule(token=CONNECTIONS, really=st.sampled_from([False, False, True]))
    def ends(self, token: int, really: bool) -> None:
        if not really:
            return
        connection: Any = self.connections.pop(token, None) or Connection(token)
        self.joins.forget(connection)

    @rule(token=CONNECTIONS, local=LOCAL, remote=REMOTE)
    def joins_are_asked_for(self, token: int, local: SockAddr, remote: SockAddr) -> None:
        connection: Any = self.connections.get(token) or Connection(token)
        pair = local.ip, remote
        there = pair in map(pair_of, connection.subflows.values())
        may = (
            token in self.connections
            and local.ip.version == remote.ip.version
            and pair not in connection.pending | connection.barred
            and not there
        )
        self.asked.clear()
        interface: Any = self.interfaces[LOCALS.index(local)]
        started = self.joins.join(connection, interface, local, remote, 0)
        assert self.asked == ([pair] if may else [])
        assert started == (may and self.refusal is None)
        if started:
            connection.pending.add(pair)
        elif may and self.refusal is not None:
            if self.refusal.words == _KERNELS:
                del self.connections[token]
            else:
                connection.barred.add(pair)

    @rule(token=CONNECTIONS, pick=PICK)
    def comes_up(self, token: int, pick: int) -> None:
        """One that was asked for; or one that the peer made, with any pair."""
        connection: Any = self.connections.get(token)
        if connection is None:
            return
        pairs = sorted(connection.pending, key=str)
        if pick % 3 == 0 or not pairs:
            pairs = [(LOCALS[pick % 2].ip, REMOTES[pick // 2 % 2])]
        self.came_up(connection, *pairs[pick % len(pairs)])

    def came_up(self, connection: Any, ip: Any, remote: SockAddr) -> None:
        self.count += 1
        flow = Subflow(SockAddr(ip, 40_000 + self.count), remote)
        connection.subflows[self.count] = flow
        connection.pending.discard(pair_of(flow))
        connection.barred.discard(pair_of(flow))
        self.may_leave = connection.waits - {ip}
        connection.waits &= {ip}
        old, until = connection.renewed.pop(pair_of(flow), (None, 0.0))
        replaced = self.joins.came_up(connection, flow)
        self.check_left(connection)
        assert replaced == (old is not None)
        if replaced and self.refusal is None:
            assert ends_of(old if self.now <= until and old else flow) in connection.ours

    def check_left(self, connection: Connection) -> None:
        """What was to be left has been, unless the kernel refused."""
        if self.refusal is None:
            known = {flow.local.ip for flow in connection.known()}
            assert not self.may_leave & known

    @rule(token=CONNECTIONS, pick=PICK)
    def fails(self, token: int, pick: int) -> None:
        connection: Any = self.connections.get(token)
        if connection is None or not connection.pending:
            return
        ip, remote = sorted(connection.pending, key=str)[pick % len(connection.pending)]
        flow = Subflow(SockAddr(ip, 50_000 + pick), remote, error=errno.ECONNREFUSED)
        connection.closing.append(flow)

    @rule(token=CONNECTIONS, pick=PICK)
    def closes(self, token: int, pick: int) -> None:
        connection = self.connections.get(token)
        if connection is not None and connection.subflows:
            flows = list(connection.subflows.values())
            connection.close(flows[pick % len(flows)])

    @rule(token=CONNECTIONS, pick=PICK)
    def closing_is_heard_of(self, token: int, pick: int) -> None:
        connection: Any = self.connections.get(token)
        if connection is None or not connection.closing:
            return
        flow = connection.closing.pop(pick % len(connection.closing))
        connection.subflows = {n: each for n, each in connection.subflows.items() if each != flow}
        pair = pair_of(flow)
        old, _until = connection.renewed.pop(pair, (None, 0.0))
        if old is not None and old.local != flow.local:
            pass  # a replacement failed: what it was to replace is still there
        elif ends_of(flow) in connection.ours:
            connection.ours.discard(ends_of(flow))
        else:
            connection.barred.add(pair)
            connection.pending.discard(pair)
        self.joins.closed(connection, flow)

    @rule(token=CONNECTIONS)
    def all_closing_is_heard_of(self, token: int) -> None:
        while token in self.connections and self.connections[token].closing:
            self.closing_is_heard_of(token, 0)

    @rule(local=LOCAL)
    def local_is_new(self, local: SockAddr) -> None:
        for connection in self.connections.values():
            connection.barred = {pair for pair in connection.barred if pair[0] != local.ip}
            connection.waits.discard(local.ip)
        self.joins.local_is_new(local)

    @rule(token=CONNECTIONS, remote=REMOTE)
    def remote_is_new(self, token: int, remote: SockAddr) -> None:
        connection: Any = self.connections.get(token) or Connection(token)
        connection.barred = {pair for pair in connection.barred if pair[1].ip != remote.ip}
        self.joins.remote_is_new(connection, remote)

    @rule(token=CONNECTIONS, local=LOCAL)
    def local_is_gone(self, token: int, local: SockAddr) -> None:
        connection: Any = self.connections.get(token)
        if connection is None:
            return
        connection.pending = {pair for pair in connection.pending if pair[0] != local.ip}
        known = connection.known()
        self.may_leave = set()
        expected: list[Pair] = []
        used = {flow.local.ip for flow in known}
        if used == {local.ip}:
            connection.waits.add(local.ip)
            # Anything else may be tried again, to take over.
            connection.barred = {pair for pair in connection.barred if pair[0] == local.ip}
        else:
            self.may_leave = {local.ip}
            lost = self.busy and local.ip in used
            for flow in connection.subflows.values() if lost else ():
                pair = pair_of(flow)
                if pair[0] != local.ip and pair not in connection.renewed and (
                    self.refusal is not None or pair not in expected
                ):
                    expected.append(pair)
                    if self.refusal is None:
                        connection.renewed[pair] = flow, self.now + IN_TIME
        self.asked.clear()
        self.joins.local_is_gone(connection, local)
        assert self.asked == expected
        self.check_left(connection)

    @rule(busy=st.booleans(), seconds=st.sampled_from([0.0, 0.1, 2.0]))
    def time_passes(self, busy: bool, seconds: float) -> None:
        """``busy``: data waits in the subflows."""
        self.busy = busy
        self.now += seconds

    @rule(local=LOCAL, remote=REMOTE, up=st.booleans())
    def local_goes_and_returns(self, local: SockAddr, remote: SockAddr, up: bool) -> None:
        """The usual course of it, which single steps come upon too rarely."""
        self.local_is_gone(1, local)
        self.all_closing_is_heard_of(1)
        self.local_is_new(local)
        self.joins_are_asked_for(1, local, remote)
        if up:
            self.comes_up(1, 1)
        else:
            self.fails(1, 0)
            self.all_closing_is_heard_of(1)

    @rule(what=st.sampled_from(["in time", "too late", "fails", "old one closes", "refused"]))
    def path_is_lost_while_data_waits(self, what: str) -> None:
        """Another usual course."""
        connection: Any = self.connections.get(1)
        if connection is None:
            return
        self.busy = True
        for local in LOCALS[:2]:
            self.came_up(connection, local.ip, REMOTES[0])
        refused = KernelError("MPTCP_PM_CMD_REMOVE", errno.EINVAL, "no")
        self.refusal = refused if what == "refused" else None
        self.local_is_gone(1, LOCALS[0])
        self.refusal = None
        ip, remote = pair = LOCALS[1].ip, REMOTES[0]
        if what == "refused":
            for flow in connection.known():
                if flow.local.ip == LOCALS[0].ip:
                    connection.close(flow)
            self.all_closing_is_heard_of(1)
            self.joins_are_asked_for(1, LOCALS[0], remote)
        elif pair in connection.renewed and what == "fails":
            connection.closing.append(Subflow(SockAddr(ip, 9), remote, error=errno.ECONNREFUSED))
            self.all_closing_is_heard_of(1)
            self.joins_are_asked_for(1, LOCALS[1], remote)
        elif pair in connection.renewed and what == "old one closes":
            connection.close(connection.renewed[pair][0])
            self.all_closing_is_heard_of(1)
            self.joins_are_asked_for(1, LOCALS[1], remote)
        elif pair in connection.renewed:
            self.now += 2 * IN_TIME if what == "too late" else 0.0
            self.came_up(connection, *pair)

    @rule(words=st.sampled_from([None] * 5 + ["connect error: -99", _KERNELS]))
    def kernel_refuses(self, words: str | None) -> None:
        command = "MPTCP_PM_CMD_SUBFLOW_CREATE"
        self.refusal = None if words is None else KernelError(command, errno.EINVAL, words)

    @precondition(lambda self: self.connections)
    @invariant()
    def as_in_the_model(self) -> None:
        found = {each.token for each in self.joins.followed()}
        assert found == self.connections.keys()
        for token, connection in self.connections.items():
            asked: Any = connection
            assert self.joins.pending(asked) == connection.pending, token


TestJoins = Machine.TestCase
TestJoins.settings = settings(stateful_step_count=80)


# Found so.


def test_what_was_left_before_is_no_failure_when_leaving_is_refused_later() -> None:
    machine = Machine()
    machine.one_is_open()
    machine.local_is_gone(1, LOCALS[0])
    machine.path_is_lost_while_data_waits("refused")

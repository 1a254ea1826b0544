"""Claim: whatever happens to events, the connection table comes to equal what the kernel has.

A model of the kernel opens and closes connections and subflows, and sends events. These are
delivered in order, or lost, repeated and out of order; in between the table is compared with the
kernel's answers to sock_diag (``resync``), of which some slip past a dump. Then:

- without loss and out-of-order delivery the table is right as soon as the queue is empty, wherever
  between two events it was resynced: nothing is applied twice;
- after loss it is right with the next resync after the queue was empty;
- what the hooks told, added up, is what the kernel has: each connection was opened, established and
  closed once, each subflow opened once and closed once.

The model is the truth in plain dicts; it shares no code with the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mptcpd.core.address import SockAddr, from_packed
from mptcpd.core.connection import Pair
from mptcpd.core.connections import Connection, Connections, Subflow
from mptcpd.core.resync import resync
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event

CLIENT_FLAGS = u.MPTCP_SUBFLOW_FLAG_MCAP_LOC | u.MPTCP_SUBFLOW_FLAG_CONNECTED
SERVER_FLAGS = u.MPTCP_SUBFLOW_FLAG_MCAP_REM | u.MPTCP_SUBFLOW_FLAG_CONNECTED
JOINED = u.MPTCP_SUBFLOW_FLAG_JOIN_REM | u.MPTCP_SUBFLOW_FLAG_JOIN_LOC
MAPPED = bytes(10) + b"\xff\xff"
PICK = st.integers(0, 10**6)


class Flow:
    """A subflow as the kernel has it."""

    def __init__(
        self, path: diag.Path, ids: tuple[int, int] = (0, 0), backup: bool = False
    ) -> None:
        self.path, self.ids, self.backup = path, ids, backup
        self.whose: Connection | None = None  # of those asked for, who awaits it

    def fields(self) -> dict[str, Any]:
        """What events tell of it."""
        return {
            **self.path._asdict(),
            "local_id": self.ids[0],
            "remote_id": self.ids[1],
            "backup": int(self.backup),
        }


class Truth:
    """A connection as the kernel has it. ``flows``: the first is number 0."""

    def __init__(self, token: int, path: diag.Path, server: bool, mapped: bool) -> None:
        self.token, self.path, self.server, self.mapped = token, path, server, mapped
        self.established = False
        self.flows: dict[int, Flow] = {0: Flow(path)}
        self.tried: list[Flow] = []  # asked for by the plugin, and neither up nor failed yet
        self.addresses: dict[int, tuple[bytes, int]] = {}
        self.role_known = True  # the table could hear of it, or see it in the first subflow
        self.whole = True  # every event about its addresses was delivered, in order


class Kernel:
    """Connections, the events that wait to be read, and answers to sock_diag."""

    def __init__(self) -> None:
        self.open: dict[int, Truth] = {}
        self.lingering: list[Truth] = []  # closed by their program, with data still to be sent
        self.plain: list[Truth] = []  # fell back to TCP
        self.queue: list[Event] = []
        self.hidden: set[int] = set()  # tokens that the next dumps miss
        self.between: Callable[[], None] = lambda: None  # happens between two dumps
        self.after: Callable[[], None] = lambda: None  # happens after both
        self._count = 0

    def path(self, mapped: bool) -> diag.Path:
        """One that no other socket ever had."""
        self._count += 1
        prefix = MAPPED if mapped else b""
        local, remote = bytes([10, 0, self._count >> 8, self._count & 255]), bytes([10, 9, 9, 9])
        return diag.Path(prefix + local, 1024 + self._count, prefix + remote, 80)

    def new(self, server: bool, mapped: bool) -> Truth:
        self._count += 1
        return Truth(self._count, self.path(mapped), server, mapped)

    def tell(self, kind: int, truth: Truth, **fields: Any) -> None:
        self.queue.append(Event(kind, truth.token, **fields))

    def about(self, kind: int, truth: Truth) -> None:
        self.tell(kind, truth, **truth.path._asdict(), server_side=int(truth.server))

    # As ``DiagClient``.

    def connections(self) -> Iterator[diag.Connection]:
        for truth in [*self.open.values(), *self.lingering, *self.plain]:
            if truth.token not in self.hidden:
                yield self._connection(truth)
        # One that ends while it is looked at has no token any more.
        yield self._connection(Truth(0, self.path(False), False, False))

    def subflows(self) -> Iterator[diag.Subflow]:
        self.between()
        for truth in [*self.open.values(), *self.lingering]:
            for number, flow in truth.flows.items():
                if -truth.token * 16 - number % 16 not in self.hidden:
                    yield self._subflow(truth, number, flow)
            # A join that is still under way belongs to nobody's list.
            for path in [self.path(False), *(flow.path for flow in truth.tried)]:
                yield diag.Subflow(path, diag.TCP_SYN_SENT, 0, truth.token, JOINED, 1, 1)
        self.after()

    def connection(self, token: int) -> diag.Connection | None:
        for truth in [*self.open.values(), *self.lingering, *self.plain]:
            if truth.token == token:
                return self._connection(truth)
        return None

    def subflow(self, path: diag.Path, ifindex: int = 0) -> diag.Subflow | None:
        for truth in [*self.open.values(), *self.lingering]:
            for number, flow in truth.flows.items():
                if plain(flow.path) == plain(path):
                    return self._subflow(truth, number, flow)
        return None

    def _connection(self, truth: Truth) -> diag.Connection:
        lingers, fell_back = truth in self.lingering, truth in self.plain
        state = diag.TCP_FIN_WAIT1 if lingers else diag.TCP_ESTABLISHED
        flags = u.MPTCP_INFO_FLAG_FALLBACK if fell_back else 0
        return diag.Connection(truth.path, state, 0, 0, int(not lingers), truth.token, flags, b"")

    def _subflow(self, truth: Truth, number: int, flow: Flow) -> diag.Subflow:
        flags = SERVER_FLAGS if truth.server else CLIENT_FLAGS
        if number:  # always made by the client
            flags = u.MPTCP_SUBFLOW_FLAG_JOIN_REM if truth.server else JOINED
        if truth.established:
            flags |= u.MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED
        if flow.backup:
            flags |= u.MPTCP_SUBFLOW_FLAG_BKUP_REM
        # Events and sock_diag may name one socket in two forms.
        path = unmapped(flow.path) if truth.token % 4 else flow.path
        return diag.Subflow(path, diag.TCP_ESTABLISHED, 0, truth.token, flags, *flow.ids)


def unmapped(path: diag.Path) -> diag.Path:
    return path._replace(local_ip=path.local_ip[-4:], remote_ip=path.remote_ip[-4:])


def plain(path: diag.Path) -> tuple[bytes, int, bytes, int]:
    """A path with IPv4-mapped addresses as IPv4."""
    local, local_port, remote, remote_port = path
    return local[-4:], local_port, remote[-4:], remote_port


def pair(path: diag.Path) -> Pair:
    """As those who ask for a subflow name it."""
    return from_packed(path.local_ip, 0).ip, from_packed(path.remote_ip, path.remote_port)


def ends(subflow: Subflow) -> tuple[bytes, int, bytes, int]:
    local, remote = subflow.local, subflow.remote
    return local.packed, local.port, remote.packed, remote.port


class Witness:
    """A plugin that believes only what it is told, and checks that it makes sense."""

    def __init__(self) -> None:
        self.open: dict[int, dict[tuple[bytes, int, bytes, int], bool]] = {}
        self.established: set[int] = set()
        self.failed: set[tuple[bytes, int, bytes, int]] = set()  # subflows that never came up
        self.addresses: dict[tuple[int, int], SockAddr] = {}  # by token and ID
        self.ended: list[int] = []
        self.asked: dict[Pair, int] = {}  # subflows whose outcome is awaited, of which token

    def new_connection(self, connection: Connection) -> None:
        assert connection.token not in self.open
        assert not connection.established
        first = connection.local, connection.remote
        seen = connection.subflows.values()
        self.open[connection.token] = {
            ends(flow): flow.backup for flow in seen if (flow.local, flow.remote) == first
        }

    def connection_established(self, connection: Connection) -> None:
        assert connection.token in self.open
        assert connection.token not in self.established
        assert connection.established
        self.established.add(connection.token)

    def connection_closed(self, connection: Connection) -> None:
        assert connection.token in self.open
        self.forget(connection.token)
        self.asked = {
            pair: token for pair, token in self.asked.items() if token != connection.token
        }
        self.ended.append(connection.token)

    def new_subflow(self, connection: Connection, subflow: Subflow) -> None:
        known = self.open[connection.token]
        assert ends(subflow) not in known
        assert subflow.error is None
        assert subflow in connection.subflows.values()
        known[ends(subflow)] = subflow.backup
        self.asked.pop((subflow.local.ip, subflow.remote), None)

    def subflow_closed(self, connection: Connection, subflow: Subflow) -> None:
        known = self.open[connection.token]
        assert subflow.error is not None
        assert ends(subflow) not in map(ends, connection.subflows.values())
        asked = self.asked.pop((subflow.local.ip, subflow.remote), None)
        if not subflow.local.port:  # the news of it was lost
            assert asked == connection.token and subflow.error == 0
            return
        if ends(subflow) not in known:
            assert subflow.error
            assert ends(subflow) not in self.failed
            self.failed.add(ends(subflow))
        known.pop(ends(subflow), None)

    def subflow_priority(self, connection: Connection, subflow: Subflow) -> None:
        known = self.open[connection.token]
        assert known[ends(subflow)] != subflow.backup
        known[ends(subflow)] = subflow.backup

    def new_address(self, connection: Connection, remote_id: int, address: SockAddr) -> None:
        assert connection.remote_addresses[remote_id] == address
        assert self.addresses.get((connection.token, remote_id)) != address
        self.addresses[connection.token, remote_id] = address

    def address_removed(self, connection: Connection, remote_id: int) -> None:
        assert remote_id not in connection.remote_addresses
        del self.addresses[connection.token, remote_id]

    def forget(self, token: int) -> None:
        """As if it had never heard of a connection."""
        self.open.pop(token, None)
        self.established.discard(token)
        kept = self.addresses.items()
        self.addresses = {key: value for key, value in kept if key[0] != token}

    def listener_created(self, address: SockAddr) -> None: ...

    def listener_closed(self, address: SockAddr) -> None: ...


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel()
        self.witness = Witness()
        self.freed: list[int] = []
        self.table = Connections(
            self.witness, lambda connection: self.freed.append(connection.token)
        )
        self.exact = True
        self.in_order = True
        self.delivered = 0

    def pick(self, number: int) -> Truth:
        return list(self.kernel.open.values())[number % len(self.kernel.open)]

    # What happens in the kernel.

    @rule(server=st.booleans(), mapped=st.booleans())
    def opens(self, server: bool, mapped: bool) -> None:
        truth = self.kernel.new(server, mapped)
        self.kernel.open[truth.token] = truth
        self.kernel.about(u.MPTCP_EVENT_CREATED, truth)

    @rule()
    def opens_plain_tcp(self) -> None:
        self.kernel.plain.append(self.kernel.new(False, False))

    @precondition(lambda self: self.kernel.plain)
    @rule(number=PICK)
    def plain_tcp_ends(self, number: int) -> None:
        plain = self.kernel.plain
        self.kernel.tell(u.MPTCP_EVENT_CLOSED, plain.pop(number % len(plain)))

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK)
    def establishes(self, number: int) -> None:
        truth = self.pick(number)
        if not truth.established and truth.flows:
            truth.established = True
            self.kernel.about(u.MPTCP_EVENT_ESTABLISHED, truth)

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK, lingers=st.booleans())
    def closes(self, number: int, lingers: bool) -> None:
        truth = self.pick(number)
        del self.kernel.open[truth.token]
        if lingers:
            self.kernel.lingering.append(truth)
        self.kernel.tell(u.MPTCP_EVENT_CLOSED, truth)

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK, backup=st.booleans(), error=st.sampled_from([0, 0, 0, 111]))
    def joins(self, number: int, backup: bool, error: int) -> None:
        truth = self.pick(number)
        if not truth.established:
            return
        flow = Flow(self.kernel.path(truth.mapped), (1, 2), backup)
        if error:
            for _time in range(1 + backup):  # the kernel has been seen to say it twice
                self.kernel.tell(u.MPTCP_EVENT_SUB_CLOSED, truth, **flow.fields(), error=error)
        else:
            self.kernel.tell(u.MPTCP_EVENT_SUB_ESTABLISHED, truth, **flow.fields())
            truth.flows[max(truth.flows, default=0) + 1] = flow

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK)
    def asks(self, number: int) -> None:
        """The plugin wants a subflow as soon as there may be one, and the kernel tries."""
        self.establishes(number)
        self.reads(len(self.kernel.queue))
        truth = self.pick(number)
        connection = self.table.by_token.get(truth.token)
        if connection is None or not connection.established:
            return
        flow = Flow(self.kernel.path(truth.mapped), (1, 2))
        flow.whose = connection
        truth.tried.append(flow)
        local, remote = pair(flow.path)
        connection.note_asked(SockAddr(local), remote, False)
        self.witness.asked[local, remote] = truth.token

    @precondition(lambda self: any(truth.tried for truth in self.kernel.open.values()))
    @rule(number=PICK, error=st.sampled_from([0, 111]), lost=st.booleans())
    def what_was_asked_for_ends(self, number: int, error: int, lost: bool) -> None:
        trying = [truth for truth in self.kernel.open.values() if truth.tried]
        truth = trying[number % len(trying)]
        flow = truth.tried.pop(0)
        if error:
            self.kernel.tell(u.MPTCP_EVENT_SUB_CLOSED, truth, **flow.fields(), error=error)
        else:
            self.kernel.tell(u.MPTCP_EVENT_SUB_ESTABLISHED, truth, **flow.fields())
            truth.flows[max(truth.flows, default=0) + 1] = flow
        if lost:
            self.inexact([self.kernel.queue.pop()])

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK, which=PICK, error=st.sampled_from([0, 104]), times=st.integers(1, 2))
    def subflow_ends(self, number: int, which: int, error: int, times: int) -> None:
        truth = self.pick(number)
        if truth.flows:
            flow = truth.flows.pop(list(truth.flows)[which % len(truth.flows)])
            for _time in range(times):
                self.kernel.tell(u.MPTCP_EVENT_SUB_CLOSED, truth, **flow.fields(), error=error)

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK, which=PICK, backup=st.booleans())
    def priority_changes(self, number: int, which: int, backup: bool) -> None:
        truth = self.pick(number)
        if truth.flows:
            flow = truth.flows[list(truth.flows)[which % len(truth.flows)]]
            flow.backup = backup
            self.kernel.tell(u.MPTCP_EVENT_SUB_PRIORITY, truth, **flow.fields())

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK, ident=st.integers(1, 3), port=st.integers(1, 3))
    def peer_announces(self, number: int, ident: int, port: int) -> None:
        truth = self.pick(number)
        truth.addresses[ident] = bytes([10, 9, 9, ident]), port
        remote = {"remote_ip": truth.addresses[ident][0], "remote_port": port}
        self.kernel.tell(u.MPTCP_EVENT_ANNOUNCED, truth, remote_id=ident, **remote)

    @precondition(lambda self: self.kernel.open)
    @rule(number=PICK, ident=st.integers(1, 3))
    def peer_removes(self, number: int, ident: int) -> None:
        truth = self.pick(number)
        truth.addresses.pop(ident, None)
        self.kernel.tell(u.MPTCP_EVENT_REMOVED, truth, remote_id=ident)

    @rule(mapped=st.booleans(), lingers=st.booleans())
    def a_short_life(self, mapped: bool, lingers: bool) -> None:
        """A usual course, upon which single steps come too rarely: all is over before it is read.

        The table is compared between the events of a connection that it knows, and has its own
        opinion of what they tell.
        """
        self.reads(len(self.kernel.queue))
        self.opens(False, mapped)
        self.reads(1)
        number = len(self.kernel.open) - 1
        self.establishes(number)
        self.joins(number, False, 0)
        self.closes(number, lingers)
        self.resync()
        self.reads(len(self.kernel.queue))

    @rule(mapped=st.booleans(), which=st.integers(0, 1), count=st.integers(0, 1))
    def a_subflow_ends_after_the_dump(self, mapped: bool, which: int, count: int) -> None:
        """What the dump told is older than the event, which is read before it is believed."""
        self.opens(True, mapped)
        number = len(self.kernel.open) - 1
        self.establishes(number)
        self.joins(number, False, 0)
        self.reads(len(self.kernel.queue))
        self.kernel.after = lambda: self.subflow_ends(number, which, 0, 1)
        self.resync(count)
        self.kernel.after = lambda: None

    @rule(mapped=st.booleans(), server=st.booleans())
    def a_life_told_twice(self, mapped: bool, server: bool) -> None:
        """Everything that can happen to a connection, each event of it twice."""
        self.opens(server, mapped)
        number = len(self.kernel.open) - 1
        self.establishes(number)
        self.joins(number, True, 0)
        self.joins(number, False, 111)
        self.priority_changes(number, 1, False)
        self.peer_announces(number, 1, 1)
        self.peer_removes(number, 1)
        self.subflow_ends(number, 1, 104, 1)
        self.closes(number, False)
        while self.kernel.queue:
            self.reads_one_as_if_it_came_twice(True)

    # What happens to the events.

    def deliver(self, event: Event) -> None:
        """Every other one by the quick way, if there is one."""
        self.delivered += 1
        if self.delivered % 2 or not self.quickly(event):
            assert self.table.take(event)

    def quickly(self, event: Event) -> bool:
        """As ``mptcp_reader`` offers an event."""
        table, token = self.table, event.token
        assert token is not None
        if event.kind == u.MPTCP_EVENT_CREATED:
            assert event.local_ip and event.local_port and event.remote_ip and event.remote_port
            local = event.local_ip + event.local_port.to_bytes(2, "big")
            remote = event.remote_ip + event.remote_port.to_bytes(2, "big")
            return table.created(token, local + remote, event.flags, event.server_side)
        if event.kind == u.MPTCP_EVENT_ESTABLISHED:
            return table.established(token)
        return event.kind == u.MPTCP_EVENT_CLOSED and table.closed(token)

    @rule(count=st.integers(1, 8))
    def reads(self, count: int) -> None:
        for event in self.kernel.queue[:count]:
            self.deliver(event)
        del self.kernel.queue[:count]
        if not self.kernel.queue:
            self.table.settled()

    @precondition(lambda self: self.kernel.queue)
    @rule(twice=st.booleans())
    def reads_one_as_if_it_came_twice(self, twice: bool) -> None:
        event = self.kernel.queue.pop(0)
        self.deliver(event)
        self.deliver(event)

    @precondition(lambda self: self.kernel.queue)
    @rule(number=PICK, count=st.integers(1, 6))
    def loses(self, number: int, count: int) -> None:
        start = number % len(self.kernel.queue)
        self.inexact(self.kernel.queue[start : start + count])
        del self.kernel.queue[start : start + count]

    @precondition(lambda self: self.kernel.queue)
    @rule(number=PICK, keeps=st.booleans())
    def delivers_out_of_order(self, number: int, keeps: bool) -> None:
        event = self.kernel.queue[number % len(self.kernel.queue)]
        self.inexact(self.kernel.queue)
        self.in_order = False
        if not keeps:
            self.kernel.queue.remove(event)
        self.deliver(event)

    def inexact(self, events: list[Event]) -> None:
        self.exact = False
        for event in events:
            if event.token in self.kernel.open:
                self.kernel.open[event.token].whole = False

    @precondition(lambda self: self.table.by_token)
    @rule(number=PICK)
    def its_plugin_is_new(self, number: int) -> None:
        """It is told of everything again, and knows as much as the one before it."""
        connection = list(self.table.by_token.values())[number % len(self.table.by_token)]
        token = connection.token
        self.witness.forget(token)
        self.table.tell_again(connection)
        flows = {ends(flow): flow.backup for flow in connection.subflows.values()}
        assert self.witness.open[token] == flows
        assert (token in self.witness.established) == connection.established
        told = {key[1]: value for key, value in self.witness.addresses.items() if key[0] == token}
        assert told == connection.remote_addresses

    # Comparisons.

    @rule(
        hidden=st.sets(PICK, max_size=3),
        count=st.integers(0, 8),
        meanwhile=st.sampled_from(["", "between", "after"]),
    )
    def resyncs(self, hidden: set[int], count: int, meanwhile: str) -> None:
        """Whatever still waits in the queue; what slips past the dump is not believed gone.

        ``meanwhile`` a connection and a subflow end, between the two dumps or after them; ``count``
        of the events are read before the rest is told.
        """
        kernel = self.kernel
        tokens = [*kernel.open]
        if tokens:
            for number in hidden:
                token = tokens[number % len(tokens)]
                kernel.hidden.add(token if number & 1 else -token * 16 - number // 2 % 3)
        if meanwhile:
            setattr(kernel, meanwhile, lambda: self.ends_something(count))
        self.resync(count)
        hidden_flows = {-number for number in kernel.hidden if number < 0}
        found = {
            truth.token
            for truth in kernel.open.values()
            if truth.token not in kernel.hidden
            or any(truth.token * 16 + number % 16 not in hidden_flows for number in truth.flows)
        }
        kernel.hidden.clear()
        assert self.table.by_token.keys() >= found  # the connection or a subflow tells of it

    def ends_something(self, number: int) -> None:
        self.kernel.between = self.kernel.after = lambda: None
        if len(self.kernel.open) > 1:
            self.closes(number, False)
            self.subflow_ends(number + 1, number, 0, 1)

    def resync(self, count: int = 0) -> None:
        table, there = self.table.by_token, self.kernel.open
        unknown = [truth for token, truth in there.items() if token not in table]
        resync(self.kernel, self.table, lambda: self.reads(count))
        self.reads(0)  # as the daemon does, for what it doubts
        for truth in unknown:  # as the subflows were when they were dumped
            truth.whole, truth.role_known = False, 0 in truth.flows

    @rule()
    def is_quiet(self) -> None:
        """Everything was read, and if something was lost, compared: now it has to be right."""
        self.reads(len(self.kernel.queue))
        if not self.exact:
            self.resync()
            self.exact = True
        self.compare()
        self.resync()
        self.compare()

    def compare(self) -> None:
        kernel, table = self.kernel, self.table.by_token
        assert table.keys() == kernel.open.keys() == self.witness.open.keys()
        for token, truth in kernel.open.items():
            connection = table[token]
            # It may have been taken for gone since then, and adopted.
            awaited = {pair(flow.path) for flow in truth.tried if flow.whose is connection}
            told = {pair for pair, whose in self.witness.asked.items() if whose == token}
            assert connection.asked.keys() == awaited == told
            assert connection.established == (token in self.witness.established)
            if truth.flows or truth.whole:  # without a subflow there is nothing to see it by
                assert connection.established == truth.established
            assert connection.server_side == truth.server or not truth.role_known
            expected = {plain(flow.path): flow for flow in truth.flows.values()}
            flows = {ends(flow): flow for flow in connection.subflows.values()}
            assert flows.keys() == expected.keys() == self.witness.open[token].keys()
            for path, flow in flows.items():
                assert (flow.local_id, flow.remote_id) == expected[path].ids
                assert flow.backup == expected[path].backup == self.witness.open[token][path]
            if truth.whole:
                assert {
                    ident: (address.packed, address.port)
                    for ident, address in connection.remote_addresses.items()
                } == truth.addresses

    @invariant()
    def everything_that_ended_was_freed_once(self) -> None:
        assert self.freed == self.witness.ended
        if self.in_order:  # a token is not given twice, so nothing opens that has ended
            assert len(set(self.freed)) == len(self.freed)
        assert self.table.by_token.keys() == self.witness.open.keys()

    def teardown(self) -> None:
        self.is_quiet()
        left = list(self.table.by_token.values())
        self.table.abandon()
        assert self.freed == self.witness.ended + [each.token for each in left]
        for connection in left:
            self.table.tell_again(connection)  # nothing, as the plugin would see


def test_usual_courses() -> None:
    """Each alone, whatever chance makes of them in company."""
    courses: list[Callable[[Machine, bool], object]] = [
        lambda machine, mapped: machine.a_short_life(mapped, False),
        lambda machine, mapped: machine.a_short_life(mapped, True),
        lambda machine, mapped: machine.a_subflow_ends_after_the_dump(mapped, 0, 1),
        lambda machine, mapped: machine.a_subflow_ends_after_the_dump(mapped, 1, 1),
        lambda machine, mapped: machine.a_life_told_twice(mapped, False),
        lambda machine, mapped: machine.a_life_told_twice(mapped, True),
    ]
    for course in courses:
        for mapped in (False, True):
            machine = Machine()
            for _time in range(5):
                course(machine, mapped)
                machine.everything_that_ended_was_freed_once()
            machine.teardown()
            assert not machine.table.take(Event(77, 1))


TestConnections = Machine.TestCase
# Short runs rarely get as far as a subflow whose end is lost.
TestConnections.settings = settings(stateful_step_count=80)

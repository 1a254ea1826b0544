"""What each event does to the table, and which hooks it calls: each transition by itself."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.core.connection_watch import ConnectionWatch
from mptcpd.core.connections import TRANSITIONS, Connection, Connections, Subflow
from mptcpd.core.loop import Loop
from mptcpd.core.path import path_of as packed_path
from mptcpd.core.resync import Outcome, resync
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event
from tests.fake.connections import TOKEN, event

LOCAL, REMOTE = "10.0.1.1:5000", "10.0.1.2:80"
SECOND = "10.0.2.1:5001"
KINDS = {
    "created": u.MPTCP_EVENT_CREATED,
    "established": u.MPTCP_EVENT_ESTABLISHED,
    "closed": u.MPTCP_EVENT_CLOSED,
}


class Noting:
    """Notes every hook, with what can be seen of the connection at that moment."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, hook: str) -> Callable[..., None]:
        if hook.startswith("_"):
            raise AttributeError(hook)

        def note(*arguments: Any) -> None:
            words = [hook]
            for argument in arguments:
                if isinstance(argument, Connection):
                    words.append("established" if argument.established else "not-established")
                elif isinstance(argument, Subflow):
                    words.append(f"{argument.local} {argument.remote}")
                    self.subflow = argument
                else:
                    words.append(str(argument))
            self.calls.append(" ".join(words))

        return note


class Case:
    def __init__(self) -> None:
        self.noting: Any = Noting()
        self.freed: list[Connection] = []
        self.table = Connections(self.noting, self.freed.append)

    def take(self, kind: int, local: str = "", remote: str = "", **fields: Any) -> list[str]:
        """Apply an event; the hooks that it called."""
        assert self.table.take(event(kind, TOKEN, local, remote, **fields))
        calls: list[str] = self.noting.calls
        self.noting.calls = []
        return calls

    def move(self, *names: str) -> list[str]:
        """Created, established or closed."""
        return [call for name in names for call in self.take(KINDS[name], LOCAL, REMOTE)]

    def second(self, backup: int = 0) -> list[str]:
        return self.take(
            u.MPTCP_EVENT_SUB_ESTABLISHED, SECOND, REMOTE, local_id=1, remote_id=0, backup=backup,
            ifindex=3,
        )  # fmt: skip

    def second_closed(self, **fields: int) -> list[str]:
        return self.take(
            u.MPTCP_EVENT_SUB_CLOSED, SECOND, REMOTE, local_id=1, backup=0, **fields
        )

    @property
    def connection(self) -> Connection:
        return self.table.by_token[TOKEN]

    @property
    def subflow(self) -> Subflow:
        found: Subflow = self.noting.subflow
        return found


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.fixture
def established(case: Case) -> Case:
    case.move("created", "established")
    return case


BEFORE: dict[str, list[str]] = {"absent": [], "created": ["created"], "established": [
    "created", "established"]}  # fmt: skip
NEW, UP = "new_connection not-established", "connection_established established"
OVER = "connection_closed not-established"


@pytest.mark.parametrize(
    ("before", "then", "hooks", "there"),
    [
        ("absent", "created", [NEW], True),
        ("absent", "established", [NEW, UP], True),
        ("absent", "closed", [], False),
        ("created", "created", [], True),
        ("created", "established", [UP], True),
        ("created", "closed", [OVER], False),
        ("established", "created", [], True),
        ("established", "established", [], True),
        ("established", "closed", [OVER], False),
    ],
)
def test_transitions(before: str, then: str, hooks: list[str], there: bool, case: Case) -> None:
    case.move(*BEFORE[before])
    assert case.move(then) == hooks
    assert (TOKEN in case.table.by_token) == there
    assert len(case.freed) == (not there and before != "absent")
    if there:
        assert case.connection.established == ("established" in (before, then))


PATH = packed_path(sockaddr(LOCAL), sockaddr(REMOTE))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("before", BEFORE)
def test_the_quick_way_is_the_same(before: str, name: str, case: Case) -> None:
    """What is offered without an Event does what the Event does, or is not taken."""
    twin = Case()
    case.move(*BEFORE[before])
    twin.move(*BEFORE[before])
    offer: dict[str, Callable[[], bool]] = {
        "created": lambda: case.table.created(TOKEN, PATH, None, None),
        "established": lambda: case.table.established(TOKEN),
        "closed": lambda: case.table.closed(TOKEN),
    }
    taken = offer[name]()
    assert taken == ((before == "absent") == (name == "created"))
    if taken:
        assert case.noting.calls == twin.move(name)
        assert (TOKEN in case.table.by_token) == (TOKEN in twin.table.by_token)
        assert len(case.freed) == len(twin.freed)
        for mine, other in zip(*(one.table.by_token.values() for one in (case, twin)), strict=True):
            assert (mine.first, mine.established) == (other.first, other.established)
    else:
        assert case.noting.calls == []


def test_every_transition_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(itertools.product(KINDS.values(), range(3)))


@pytest.mark.parametrize("order", list(itertools.permutations(KINDS)))
def test_any_order_tells_of_one_life_at_a_time(order: tuple[str, ...], case: Case) -> None:
    calls = case.move(*order, *order)
    lives = "".join({"new_connection": "(", "connection_closed": ")"}.get(call.split()[0], ".")
                    for call in calls)  # fmt: skip
    assert lives.replace(".", "").replace("()", "") in ("", "(")
    assert "(.." not in lives


@pytest.mark.parametrize(
    ("fields", "server_side", "deny"),
    [
        ({}, False, False),
        ({"server_side": 0}, False, False),
        ({"server_side": 1}, True, False),
        ({"flags": u.MPTCP_PM_EV_FLAG_SERVER_SIDE}, True, False),  # Linux 6.18
        ({"server_side": 0, "flags": u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0}, False, True),
        ({"flags": 0xFFFC}, False, False),
    ],
)
def test_role(fields: dict[str, int], server_side: bool, deny: bool, case: Case) -> None:
    case.take(u.MPTCP_EVENT_CREATED, LOCAL, REMOTE, **fields)
    connection = case.connection
    assert (connection.server_side, connection.deny_join_id0) == (server_side, deny)
    assert (connection.local, connection.remote) == (sockaddr(LOCAL), sockaddr(REMOTE))
    assert repr(connection) == "<Connection 00001000 10.0.1.1:5000 10.0.1.2:80>"


def test_the_first_subflow_is_there_without_an_event(case: Case) -> None:
    case.move("created")
    key = (ip_address("10.0.1.1"), 5000, ip_address("10.0.1.2"), 80)
    assert case.connection.subflows == {key: Subflow(sockaddr(LOCAL), sockaddr(REMOTE))}


def test_a_subflow_comes_and_goes(established: Case) -> None:
    case = established
    assert case.second() == [f"new_subflow established {SECOND} {REMOTE}"]
    expected = Subflow(sockaddr(SECOND), sockaddr(REMOTE), 1, 0, False, 3)
    assert case.subflow == expected
    assert len(case.connection.subflows) == 2
    assert case.second() == []  # the same news again
    assert case.second_closed(error=104, reset_reason=1, reset_flags=2) == [
        f"subflow_closed established {SECOND} {REMOTE}"
    ]
    assert case.subflow == expected._replace(error=104, reset_reason=1, reset_flags=2)
    assert len(case.connection.subflows) == 1
    assert case.second_closed(error=104) == []
    assert case.second() != []  # the same path once more
    assert case.second_closed() != []
    assert case.subflow.error == 0


def test_a_subflow_that_does_not_come_up(established: Case) -> None:
    assert established.second_closed() == []  # nothing is known of it, and nothing failed
    assert established.second_closed(error=111) == [
        f"subflow_closed established {SECOND} {REMOTE}"
    ]
    assert established.subflow.error == 111
    assert established.second_closed(error=111) == []
    assert len(established.connection.subflows) == 1


def test_the_first_subflow_closes(established: Case) -> None:
    calls = established.take(u.MPTCP_EVENT_SUB_CLOSED, LOCAL, REMOTE, backup=0)
    assert calls == [f"subflow_closed established {LOCAL} {REMOTE}"]
    assert established.connection.subflows == {}
    assert str(established.connection.local) == LOCAL  # where it began
    assert established.take(u.MPTCP_EVENT_SUB_CLOSED, LOCAL, REMOTE, backup=0) == []


def test_only_so_many_closed_subflows_are_remembered(established: Case) -> None:
    """The memory of a connection is bounded, however many attempts fail."""
    for port in range(6000, 6100):
        where = f"10.0.2.1:{port}"
        for expected in (1, 0):
            calls = established.take(
                u.MPTCP_EVENT_SUB_CLOSED, where, REMOTE, backup=0, error=111
            )
            assert len(calls) == expected
    assert established.second_closed(error=111) != []


def test_one_path_in_either_form(established: Case) -> None:
    """The kernel tells of the same socket with IPv4 and with IPv4-mapped addresses."""
    raw: dict[str, Any] = {
        "local_ip": ip_address("::ffff:10.0.2.1").packed, "local_port": 5001,
        "remote_ip": ip_address("::ffff:10.0.1.2").packed, "remote_port": 80,
    }  # fmt: skip
    established.second()
    assert established.take(u.MPTCP_EVENT_SUB_ESTABLISHED, backup=0, **raw) == []
    assert established.take(u.MPTCP_EVENT_SUB_CLOSED, backup=0, **raw) == [
        f"subflow_closed established {SECOND} {REMOTE}"
    ]


def test_priority(established: Case) -> None:
    case = established
    case.second()

    def priority(backup: int, where: str = SECOND) -> list[str]:
        return case.take(u.MPTCP_EVENT_SUB_PRIORITY, where, REMOTE, backup=backup)

    changed = f"subflow_priority established {SECOND} {REMOTE}"
    assert (priority(1), case.subflow.backup) == ([changed], True)
    assert priority(1) == []
    assert case.second() == []  # older news: it stays a backup
    assert (priority(0), case.subflow.backup) == ([changed], False)
    assert priority(1, "10.0.9.9:1") == []  # of a subflow that nobody told of
    assert priority(1, LOCAL) == [f"subflow_priority established {LOCAL} {REMOTE}"]


def test_a_backup_that_we_asked_for(established: Case) -> None:
    """The kernel's event tells only what the peer asked for."""
    for asked in (True, False):
        established.connection.note_asked(sockaddr("10.0.2.1"), sockaddr(REMOTE), asked)
        established.second(backup=0)
        assert established.subflow.backup is asked
        established.second_closed()


def test_a_join_shows_that_the_connection_is_established(case: Case) -> None:
    case.move("created")
    assert case.second() == [UP, f"new_subflow established {SECOND} {REMOTE}"]
    assert case.move("established") == []


def test_what_the_peer_announces(established: Case) -> None:
    case = established

    def announced(ident: int, remote: str) -> list[str]:
        return case.take(u.MPTCP_EVENT_ANNOUNCED, remote=remote, remote_id=ident)

    def removed(ident: int) -> list[str]:
        return case.take(u.MPTCP_EVENT_REMOVED, remote_id=ident)

    assert announced(1, "10.0.2.2:80") == ["new_address established 1 10.0.2.2:80"]
    assert announced(1, "10.0.2.2:80") == []
    assert announced(2, "10.0.3.2") == ["new_address established 2 10.0.3.2"]
    assert announced(1, "10.0.2.2:81") == ["new_address established 1 10.0.2.2:81"]
    known = {1: sockaddr("10.0.2.2:81"), 2: SockAddr(ip_address("10.0.3.2"))}
    assert case.connection.remote_addresses == known
    assert removed(1) == ["address_removed established 1"]
    assert removed(1) == removed(9) == []
    assert list(case.connection.remote_addresses) == [2]


@pytest.mark.parametrize("attribute", ["subflows", "announced", "remote_addresses"])
def test_plugins_cannot_change_a_connection(attribute: str, established: Case) -> None:
    established.take(u.MPTCP_EVENT_ANNOUNCED, remote="10.0.2.2:80", remote_id=1)
    established.connection.note_announced(1, sockaddr("10.0.2.1"))
    before = dict(getattr(established.connection, attribute))
    assert before
    with contextlib.suppress(AttributeError):  # a view that refuses, or a copy
        getattr(established.connection, attribute).clear()
    assert dict(getattr(established.connection, attribute)) == before


def test_listeners(case: Case) -> None:
    for kind, hook in (
        (u.MPTCP_EVENT_LISTENER_CREATED, "listener_created"),
        (u.MPTCP_EVENT_LISTENER_CLOSED, "listener_closed"),
    ):
        assert case.table.take(event(kind, 0, "10.0.1.1:80"))
        assert case.noting.calls.pop() == f"{hook} 10.0.1.1:80"


def test_events_of_unknown_connections_are_counted(case: Case) -> None:
    assert case.second() == case.second_closed(error=111) == []
    assert case.take(u.MPTCP_EVENT_ANNOUNCED, remote="10.0.2.2:80", remote_id=1) == []
    assert case.take(u.MPTCP_EVENT_REMOVED, remote_id=1) == []
    assert case.take(u.MPTCP_EVENT_SUB_PRIORITY, SECOND, REMOTE, backup=1) == []
    assert case.table.unmatched == 5
    assert case.table.by_token == {}


def test_a_connection_is_gone_before_its_last_hook(case: Case) -> None:
    """A plugin that looks around in connection_closed finds it no more, and may still read it."""
    case.move("created", "established")
    found: list[object] = []

    def closed(connection: Connection) -> None:
        found.extend([TOKEN in case.table.by_token, str(connection.local), list(case.freed)])

    case.noting.connection_closed = closed
    table = Connections(case.noting, case.freed.append)
    case.table = table
    case.move("created", "closed")
    assert found == [False, LOCAL, []]
    assert len(case.freed) == 1


# What a dump tells.


class ScriptedDiag:
    """sock_diag's answers. ``missed``: subflows that the dump misses, though they are there;
    ``bound``: the interface that the connection's program bound it to."""

    def __init__(
        self,
        *flows: diag.Subflow,
        missed: tuple[diag.Subflow, ...] = (),
        bound: int = 0,
        there: bool = True,
        token: int = TOKEN,
    ) -> None:
        self.flows, self.missed, self.bound, self.there = flows, missed, bound, there
        self.token = token

    def connections(self) -> Iterator[diag.Connection]:
        path = path_of(LOCAL, REMOTE)
        if self.there:
            yield diag.Connection(path, diag.TCP_ESTABLISHED, self.bound, 0, 1, self.token, 0, b"")

    def subflows(self) -> Iterator[diag.Subflow]:
        yield from self.flows

    def connection(self, token: int) -> diag.Connection | None:
        return next(self.connections(), None) if token == TOKEN else None

    def subflow(self, path: diag.Path, ifindex: int = 0) -> diag.Subflow | None:
        for flow in (*self.flows, *self.missed):
            # One that is bound to an interface is found only by who names that.
            if flow.path == path and flow.ifindex in (0, ifindex):
                return flow
        return None


def path_of(local: str, remote: str) -> diag.Path:
    here, there = sockaddr(local), sockaddr(remote)
    return diag.Path(here.packed, here.port, there.packed, there.port)


def flow(local: str, flags: int, ids: tuple[int, int] = (0, 0), ifindex: int = 0) -> diag.Subflow:
    return diag.Subflow(
        path_of(local, REMOTE), diag.TCP_ESTABLISHED, ifindex, TOKEN, flags, *ids
    )


UP_FLAGS = u.MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED | u.MPTCP_SUBFLOW_FLAG_CONNECTED
AS_CLIENT = UP_FLAGS | u.MPTCP_SUBFLOW_FLAG_MCAP_LOC | u.MPTCP_SUBFLOW_FLAG_MCAP_REM
AS_SERVER = UP_FLAGS | u.MPTCP_SUBFLOW_FLAG_MCAP_REM
JOIN_OUT = UP_FLAGS | u.MPTCP_SUBFLOW_FLAG_JOIN_LOC | u.MPTCP_SUBFLOW_FLAG_JOIN_REM
JOIN_IN = UP_FLAGS | u.MPTCP_SUBFLOW_FLAG_JOIN_REM


@pytest.mark.parametrize(
    ("flows", "missed", "server_side"),
    [
        ([flow(LOCAL, AS_CLIENT)], [], False),
        ([flow(LOCAL, AS_SERVER)], [], True),
        ([], [flow(LOCAL, AS_CLIENT)], False),
        ([], [flow(LOCAL, AS_SERVER)], True),
        ([flow(SECOND, JOIN_OUT)], [], False),
        ([flow(SECOND, JOIN_IN)], [], True),
        # A server may join, too: the first subflow counts for more.
        ([flow(SECOND, JOIN_OUT), flow(LOCAL, AS_SERVER)], [], True),
        ([flow(LOCAL, AS_SERVER), flow(SECOND, JOIN_OUT)], [], True),
    ],
)
def test_who_opened_a_connection_that_was_found(
    flows: list[diag.Subflow], missed: list[diag.Subflow], server_side: bool, case: Case
) -> None:
    resync(ScriptedDiag(*flows, missed=tuple(missed)), case.table)
    assert case.connection.server_side == server_side


def test_a_connection_that_was_found_has_its_subflows_from_the_first_hook_on(case: Case) -> None:
    """Who asks for subflows in connection_established must not ask for one that is there."""
    seen: list[int] = []
    case.noting.connection_established = lambda connection: seen.append(len(connection.subflows))
    case.table = Connections(case.noting, case.freed.append)
    found = ScriptedDiag(flow(SECOND, JOIN_OUT, (1, 2), 3), flow(LOCAL, AS_CLIENT))
    assert resync(found, case.table) == Outcome(1, 0, 1, 0)
    assert seen == [2]
    assert case.noting.calls == [NEW, f"new_subflow established {SECOND} {REMOTE}"]
    assert case.subflow == Subflow(sockaddr(SECOND), sockaddr(REMOTE), 1, 2, False, 3)
    assert resync(found, case.table) == Outcome()


def test_news_of_a_subflow_say_nothing_of_the_one_that_is_to_replace_it(
    established: Case,
) -> None:
    """Both are between the same addresses; what becomes of the new one is still awaited."""
    connection, pair = established.connection, (sockaddr(LOCAL).ip, sockaddr(REMOTE))
    connection.note_asked(sockaddr(LOCAL), sockaddr(REMOTE), False)
    (path,) = connection.paths()
    established.table.reprioritised(connection, path, True)
    assert pair in connection.asked
    new = f"{sockaddr(LOCAL).ip}:7"
    established.table.take(event(u.MPTCP_EVENT_SUB_ESTABLISHED, connection.token, new, REMOTE))
    assert pair not in connection.asked


def test_a_first_subflow_that_closed_before_is_in_no_hook(case: Case) -> None:
    """Who moves data to other subflows in connection_established must not count on it."""
    seen: list[list[Subflow]] = []
    case.noting.connection_established = lambda connection: seen.append(
        [*connection.subflows.values()]
    )
    case.table = Connections(case.noting, case.freed.append)
    found = ScriptedDiag(flow(SECOND, JOIN_OUT, (1, 2), 3))
    assert resync(found, case.table) == Outcome(1, 0, 1, 0)
    assert seen == [[Subflow(sockaddr(SECOND), sockaddr(REMOTE), 1, 2, False, 3)]]
    assert case.noting.calls == [NEW, f"new_subflow established {SECOND} {REMOTE}"]
    assert case.connection.local == sockaddr(LOCAL)  # whatever became of it
    assert resync(found, case.table) == Outcome()


def test_a_bound_subflow_that_slips_past_the_dump_is_not_gone(case: Case) -> None:
    first, second = flow(LOCAL, AS_CLIENT, ifindex=2), flow(SECOND, JOIN_OUT, (1, 2), 3)
    resync(ScriptedDiag(first, second, bound=2), case.table)
    case.noting.calls.clear()
    assert resync(ScriptedDiag(missed=(first, second), bound=2), case.table) == Outcome()
    assert len(case.connection.subflows) == 2
    assert case.noting.calls == []


def test_events_older_than_the_comparison_open_nothing_again(established: Case) -> None:
    """They waited in the queue while the kernel was found to have the connection no more."""
    assert resync(ScriptedDiag(there=False), established.table) == Outcome(0, 1)
    established.noting.calls.clear()
    assert established.move("created", "established") == []
    established.table.settled()
    assert established.move("established") == [NEW, UP]  # another one with that token


def test_a_connection_whose_token_was_given_back_is_none(case: Case) -> None:
    """The kernel does so when a connection ends, be it while the dump looks at it."""
    its = flow(LOCAL, AS_CLIENT)._replace(token=0)
    assert resync(ScriptedDiag(its, token=0), case.table) == Outcome()
    case.table.take(event(u.MPTCP_EVENT_ESTABLISHED, 0, LOCAL, REMOTE))
    assert not case.table.created(0, b"", 0, 0)
    assert (case.table.by_token, case.noting.calls) == ({}, [])


def test_a_lost_change_of_priority(established: Case) -> None:
    backup = u.MPTCP_SUBFLOW_FLAG_BKUP_REM
    resync(ScriptedDiag(flow(LOCAL, AS_CLIENT | backup)), established.table)
    assert established.noting.calls == [f"subflow_priority established {LOCAL} {REMOTE}"]
    resync(ScriptedDiag(flow(LOCAL, AS_CLIENT)), established.table)
    assert len(established.noting.calls) == 2
    assert established.subflow.backup is False


class NoEvents:
    """An event socket with nothing in it."""

    foreign = 0
    events = 0

    def fileno(self) -> int:
        return 0

    def join(self, group: int) -> None: ...

    def filter(self, program: object) -> None: ...

    def receive(self, *_arguments: object) -> int:
        return 0


def test_an_unknown_event_is_said_once(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Not once an event: newer kernels may send one for every connection."""
    caplog.set_level(logging.INFO)
    nothing: Any = NoEvents()
    loop: Any = Loop
    watch = ConnectionWatch(loop, nothing, nothing, ScriptedDiag(), case.table)
    for kind in (99, 99, 98, 99):
        watch._take(Event(kind, TOKEN))
    assert [record.getMessage() for record in caplog.records] == [
        "Unhandled MPTCP event: 99 (said once)",
        "Unhandled MPTCP event: 98 (said once)",
    ]
    assert case.noting.calls == []

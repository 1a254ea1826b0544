"""Commands for one connection: what the kernel is asked, what is held, what a refusal leaves."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from mptcpd.core.address import sockaddr
from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.ids import AddressIds
from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError, NetlinkError
from mptcpd.plugin import Connection, Endpoint, Plugin, Subflow
from tests.core.following import Daemon, FakeListeners
from tests.fake.connections import TOKEN, ConnectionTable, Entry, refusal


class Silent(Plugin):
    def new_connection(self, connection: Connection, pm: Any) -> None: ...


class Case(Daemon):
    """A server's connection from 10.0.9.9:5000 to 10.0.1.1:80."""

    def __init__(self) -> None:
        super().__init__(Silent())
        self.kernel.open(local="10.0.1.1:80", remote="10.0.9.9:5000", server=True)
        self.settle()
        self.it = self.connection()

    @property
    def asked(self) -> list[str]:
        asked, self.kernel.asked = self.kernel.asked, []
        return asked

    @property
    def held(self) -> dict[str, int]:
        return {str(address): users for address, users in self.listeners.held.items()}

    @property
    def announced(self) -> dict[int, str]:
        return {ident: str(address) for ident, address in self.it.announced.items()}


@pytest.fixture
def case() -> Case:
    return Case()


def refused(words: str, call: Callable[..., object], *arguments: Any, **options: Any) -> None:
    with pytest.raises(KernelError) as caught:
        call(*arguments, **options)
    assert caught.value.words == words


# announce


def test_announce_with_a_listener(case: Case) -> None:
    bound = case.commands.announce(case.it, "10.0.2.1")
    assert str(bound) == "10.0.2.1:50001"
    assert case.asked == ["ANNOUNCE 10.0.2.1:50001 id 1"]
    assert (case.held, case.announced) == ({"10.0.2.1:50001": 1}, {1: "10.0.2.1:50001"})


def test_announce_without(case: Case) -> None:
    assert str(case.commands.announce(case.it, "10.0.2.1", 7, listen=False)) == "10.0.2.1"
    assert case.asked == ["ANNOUNCE 10.0.2.1 id 7"]
    assert (case.held, case.announced) == ({}, {7: "10.0.2.1"})


def test_the_connections_own_port_is_not_named(case: Case) -> None:
    """An IPv6 address with a port would not fit into the TCP header, and never be sent."""
    bound = case.commands.announce(case.it, "[fd00::1]:80")
    assert case.asked == ["ANNOUNCE fd00::1 id 1"]
    assert str(bound) == "[fd00::1]:80"
    assert case.held == {"[fd00::1]:80": 1}


def test_announced_again(case: Case) -> None:
    """The same port, and one user less than calls."""
    first = case.commands.announce(case.it, "10.0.2.1")
    assert case.commands.announce(case.it, "10.0.2.1") == first
    assert case.asked == ["ANNOUNCE 10.0.2.1:50001 id 1"] * 2
    assert case.held == {"10.0.2.1:50001": 1}
    assert case.commands.announce(case.it, "10.0.2.1", listen=False) == first
    assert case.held == {}


def test_announced_with_another_port_gets_another_id(case: Case) -> None:
    """Under one ID the kernel takes one port."""
    case.commands.announce(case.it, "10.0.2.1:1000")
    refused(
        "did not match address and id", case.commands.announce, case.it, "10.0.2.1:2000", 1
    )
    assert case.held == {"10.0.2.1:1000": 1}
    case.commands.announce(case.it, "10.0.2.1:2000")
    assert case.announced == {1: "10.0.2.1:1000", 2: "10.0.2.1:2000"}
    assert case.held == {"10.0.2.1:1000": 1, "10.0.2.1:2000": 1}


@pytest.mark.parametrize(
    "failure", [refusal("ANNOUNCE", errno.EINVAL, "no"), NetlinkError("no answer"), OSError()]
)
def test_a_failed_announce_leaves_nothing_behind(failure: Exception) -> None:
    class Refusing(ConnectionTable):
        def announce(self, token: int, address: mptcp.Address) -> None:
            raise failure

    case = Case()
    kernel = Refusing()
    listeners: Any = FakeListeners()
    commands = ConnectionCommands(kernel, AddressIds(), listeners, case.sockets)
    with pytest.raises(type(failure)):
        commands.announce(case.it, "10.0.2.1")
    assert (listeners.held, case.announced) == ({}, {})
    commands.ended(case.it)


def test_nothing_is_announced_where_nothing_can_listen(case: Case) -> None:
    case.listeners.busy.add("10.0.2.1:443")
    with pytest.raises(OSError, match="in use"):
        case.commands.announce(case.it, "10.0.2.1:443")
    assert (case.asked, case.announced) == ([], {})


@pytest.mark.parametrize("ident", [0, -1, 256])
def test_ids_out_of_range(ident: int, case: Case) -> None:
    with pytest.raises(ValueError, match=f"address ID {ident} is not within 1 to 255"):
        case.commands.announce(case.it, "10.0.2.1", ident)
    if ident:
        with pytest.raises(ValueError, match="is not within 0 to 255"):
            case.commands.remove(case.it, ident)
        with pytest.raises(ValueError, match="is not within 0 to 255"):
            case.commands.create_subflow(case.it, "10.0.2.1", "10.0.9.9:1", local_id=ident)
    assert (case.asked, case.held) == ([], {})


def test_the_kernels_own_number_for_an_address(case: Case) -> None:
    """It counts where none was asked for; one that was asked for is not exchanged for another."""
    case.kernel.entries[TOKEN] = [Entry(sockaddr("10.0.2.1"), 5), Entry(sockaddr("10.0.3.1"), 1)]
    case.commands.announce(case.it, "10.0.2.1", listen=False)
    assert case.announced == {5: "10.0.2.1"}
    case.commands.announce(case.it, "10.0.4.1", listen=False)
    assert case.announced == {5: "10.0.2.1", 2: "10.0.4.1"}
    refused(
        "did not match address and id", case.commands.announce, case.it, "10.0.5.1", 5,
        listen=False,
    )  # fmt: skip


# remove, ended


def test_remove(case: Case) -> None:
    case.commands.announce(case.it, "10.0.2.1")
    case.commands.remove(case.it, 1)
    assert (case.asked[1:], case.held, case.announced) == (["REMOVE id 1"], {}, {})
    refused("address with id 1 not found", case.commands.remove, case.it, 1)
    case.commands.remove(case.it, 0)  # the initial address


def test_remove_of_what_the_kernel_forgot(case: Case) -> None:
    case.commands.announce(case.it, "10.0.2.1:80")
    case.kernel.entries[TOKEN].clear()
    case.commands.remove(case.it, 1)
    assert case.asked == [
        "ANNOUNCE 10.0.2.1 id 1", "REMOVE id 1", "ANNOUNCE 10.0.2.1 id 1", "REMOVE id 1",
    ]  # fmt: skip
    assert (case.held, case.announced) == ({}, {})


def test_a_refused_remove_keeps_what_is_held(case: Case) -> None:
    case.commands.announce(case.it, "10.0.2.1")
    case.kernel.foreign.add(TOKEN)
    refused("userspace PM not selected", case.commands.remove, case.it, 1)
    assert (case.held, case.announced) == ({"10.0.2.1:50001": 1}, {1: "10.0.2.1:50001"})


def test_the_end_of_a_connection_frees_what_it_held(case: Case) -> None:
    case.kernel.open(TOKEN + 1, "10.0.1.1:80", "10.0.9.9:5001", server=True)
    case.settle()
    for token in (TOKEN, TOKEN + 1):
        case.commands.announce(case.connection(token), "10.0.2.1:443")
    case.commands.announce(case.it, "10.0.3.1:443")
    assert case.held == {"10.0.2.1:443": 2, "10.0.3.1:443": 1}
    case.kernel.close()
    case.settle()
    assert case.held == {"10.0.2.1:443": 1}
    case.commands.ended(case.it)
    assert case.held == {"10.0.2.1:443": 1}


# subflows


@pytest.mark.parametrize(
    ("arguments", "options", "asked"),
    [
        (
            ("10.0.2.1", "10.0.9.9:7000"),
            {"remote_id": 3, "backup": True, "ifindex": 4},
            "10.0.2.1 id 1 to 10.0.9.9:7000 id 3 backup dev 4",
        ),
        # without a port: the connection's
        (("10.0.2.1", "10.0.8.8"), {}, "10.0.2.1 id 1 to 10.0.8.8:5000 id None"),
        (("10.0.2.1:1234", "10.0.8.8"), {}, "10.0.2.1:1234 id 1 to 10.0.8.8:5000 id None"),
        (("10.0.2.1", "10.0.8.8"), {"local_id": 9}, "10.0.2.1 id 9 to 10.0.8.8:5000 id None"),
        # the first subflow's address is number 0
        (("10.0.1.1", "10.0.8.8"), {}, "10.0.1.1 id 0 to 10.0.8.8:5000 id None"),
        (("10.0.1.1", "10.0.8.8"), {"local_id": 9}, "10.0.1.1 id 9 to 10.0.8.8:5000 id None"),
        (("::ffff:10.0.1.1", "::ffff:10.0.8.8"), {}, "10.0.1.1 id 0 to 10.0.8.8:5000 id None"),
        (("fd00::1", "fd00::2"), {"remote_id": 0}, "fd00::1 id 1 to [fd00::2]:5000 id 0"),
    ],
)
def test_create_subflow(
    arguments: tuple[str, str], options: dict[str, Any], asked: str, case: Case
) -> None:
    case.commands.create_subflow(case.it, *arguments, **options)
    assert case.asked == [f"SUBFLOW_CREATE {asked}"]
    case.settle()
    created = list(case.it.subflows.values())[1]
    assert created.backup == options.get("backup", False)


def test_a_subflow_that_cannot_be_started(case: Case) -> None:
    case.kernel.lacks.add("10.0.2.1")
    refused("connect error: -99", case.commands.create_subflow, case.it, "10.0.2.1", "10.0.8.8")
    with pytest.raises(ValueError, match="not of one address family"):
        case.commands.create_subflow(case.it, "10.0.2.1", "fd00::1")
    with pytest.raises(ValueError, match="no IP address"):
        case.commands.create_subflow(case.it, "eth1", "10.0.8.8")
    assert len(case.it.subflows) == 1


def test_what_is_started_again(case: Case) -> None:
    """Counted by pairs of addresses: whatever its port, a subflow after another one is a retry."""
    ends = "10.0.2.1", "10.0.8.8:5000"
    case.commands.create_subflow(case.it, *ends)
    case.kernel.answer(errno.ECONNREFUSED)
    case.settle()
    assert len(case.it.subflows) == 1
    case.commands.create_subflow(case.it, *ends)  # failed before
    case.settle()
    case.commands.create_subflow(case.it, *ends)  # is there
    case.settle()
    assert len(case.it.subflows) == 3
    case.commands.create_subflow(case.it, "10.0.2.1", "10.0.8.8:6000")  # another port
    case.commands.create_subflow(case.it, "10.0.3.1", "10.0.8.8:5000")  # another address
    case.settle()
    assert case.commands.started == {"first": 3, "retry": 1, "renewal": 1}
    for flow in list(case.it.subflows.values()):
        if str(flow.local.ip) == "10.0.3.1":
            case.commands.destroy_subflow(case.it, flow)
    case.settle()
    case.commands.create_subflow(case.it, "10.0.3.1", "10.0.8.8")  # closed before
    case.kernel.lacks.add("10.0.3.1")
    refused("connect error: -99", case.commands.create_subflow, case.it, "10.0.3.1", "10.0.8.8")
    assert case.commands.started == {"first": 3, "retry": 2, "renewal": 1}


def test_destroy_and_set_backup(case: Case) -> None:
    case.kernel.peer_joins("10.0.2.1:80", "10.0.8.8:6000")
    case.settle()
    (_first, second) = case.it.subflows.values()
    case.commands.set_backup(case.it, second, True)
    (_first, changed) = case.it.subflows.values()
    assert (second.backup, changed.backup) == (False, True)
    case.commands.set_backup(case.it, changed, False)
    case.commands.destroy_subflow(case.it, second)
    assert case.asked == [
        "SET_FLAGS 4 10.0.2.1:80 to 10.0.8.8:6000",
        "SET_FLAGS 0 10.0.2.1:80 to 10.0.8.8:6000",
        "SUBFLOW_DESTROY 10.0.2.1:80 to 10.0.8.8:6000",
    ]
    refused("subflow not found", case.commands.destroy_subflow, case.it, second)
    refused("subflow not found", case.commands.set_backup, case.it, second, True)


class MappedKernel(ConnectionTable):
    """Whose server listens on ::, so that its subflows are IPv6 ones."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[int] = []

    def subflow_destroy(self, token: int, local: mptcp.Address, remote: mptcp.Address) -> None:
        self._form("SUBFLOW_DESTROY", local, remote)
        super().subflow_destroy(token, local, remote)

    def set_flags(
        self, address: mptcp.Address, remote: mptcp.Address | None, token: int | None
    ) -> None:
        assert remote is not None
        self._form("SET_FLAGS", address, remote)
        super().set_flags(address, remote, token)

    def _form(self, command: str, local: mptcp.Address, remote: mptcp.Address) -> None:
        assert local.ip is not None and remote.ip is not None
        assert len(local.ip) == len(remote.ip)
        self.forms.append(len(local.ip))
        if len(local.ip) == 4:
            raise refusal(command, errno.ESRCH, "subflow not found")


def test_subflows_of_an_ipv6_socket_with_ipv4_addresses(case: Case) -> None:
    kernel = MappedKernel()
    kernel.up, kernel.entries = case.kernel.up, case.kernel.entries
    listeners: Any = case.listeners
    commands = ConnectionCommands(kernel, case.ids, listeners, case.sockets)
    (first,) = case.it.subflows.values()
    commands.set_backup(case.it, first, True)
    commands.destroy_subflow(case.it, first)
    assert kernel.forms == [4, 16, 4, 16]
    refused("subflow not found", commands.destroy_subflow, case.it, first)
    kernel.foreign.add(TOKEN)
    six = Subflow(sockaddr("[fd00::1]:1"), sockaddr("[fd00::2]:1"))
    kernel.forms.clear()
    refused("userspace PM not selected", commands.destroy_subflow, case.it, six)
    assert kernel.forms == [16]


def test_abandon(case: Case) -> None:
    """The peer hears of it first; then what remains here is closed; then nothing is held."""
    case.commands.announce(case.it, "10.0.2.1:443")
    case.kernel.peer_joins("10.0.2.1:443", "10.0.8.8:6000")
    case.kernel.peer_joins("10.0.2.1:443", "10.0.8.9:6000")
    case.settle()
    case.commands.abandon(case.it, "10.0.2.1")
    assert case.asked == [
        "REMOVE id 1",
        "SUBFLOW_DESTROY 10.0.2.1:443 to 10.0.8.8:6000",
        "SUBFLOW_DESTROY 10.0.2.1:443 to 10.0.8.9:6000",
    ]
    assert (case.held, case.announced) == ({}, {})
    case.settle()
    assert len(case.it.subflows) == 1
    case.commands.abandon(case.it, "10.0.2.1")
    case.commands.abandon(case.it, "10.0.7.7")
    assert case.asked == []


def test_abandon_goes_on_where_the_kernel_was_faster(case: Case) -> None:
    case.kernel.peer_joins("10.0.2.1:80", "10.0.8.8:6000")
    case.settle()
    case.kernel.entries[TOKEN].clear()
    case.kernel.up[TOKEN].popitem()
    case.commands.abandon(case.it, "10.0.2.1")
    assert case.asked == ["REMOVE id 1", "ANNOUNCE 10.0.2.1 id 1", "REMOVE id 1"] + [
        "SUBFLOW_DESTROY 10.0.2.1:80 to 10.0.8.8:6000"
    ] * 2  # the second time IPv4-mapped
    case.kernel.foreign.add(TOKEN)
    refused("userspace PM not selected", case.commands.abandon, case.it, "10.0.2.1")


def test_addresses(case: Case) -> None:
    case.commands.create_subflow(case.it, "10.0.2.1", "10.0.9.9:1", local_id=4)
    assert case.commands.addresses(case.it) == [
        Endpoint(sockaddr("10.0.2.1"), 4, ("subflow",), None)
    ]


# is_busy


@pytest.mark.parametrize(
    ("waiting", "heard", "busy"),
    [
        (0, (0, 0), False),
        (65535, (65535, 0), False),
        (65536, (0, 0), True),
        (0, (65536, 100), False),
        (0, (65536, 99), True),
    ],
)
def test_a_busy_connection(
    case: Case, waiting: int, heard: tuple[int, int], busy: bool
) -> None:
    case.kernel.waiting[TOKEN], case.kernel.heard[TOKEN] = waiting, heard
    assert case.commands.is_busy(case.it) is busy


def test_what_is_over_is_not_busy(case: Case) -> None:
    case.kernel.waiting[TOKEN] = 1 << 20
    case.kernel.close()
    assert not case.commands.is_busy(case.it)
